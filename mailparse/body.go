package mailparse

import "strings"

// isBody reports whether a leaf is text to be read, and no attachment, by where it
// stands (RFC 8621 §4.1.4).
func isBody(n, parent *node) bool {
	if n.part.Disposition == "attachment" || n.part.Type != "text/plain" && n.part.Type != "text/html" {
		return false
	}
	if parent == nil || parent.children[0] == n {
		return true
	}
	return parent.part.Type != "multipart/related" && n.part.Name == ""
}

// bodies sorts the leaves of a message into what is read as text, what is read as
// HTML, and what is attached, as RFC 8621 §4.1.4 has it, save that no picture is
// text, and that nothing is in none of the three.
type bodies struct {
	text, html []*node
	attached   []*Part
}

// choice is what still may go where.
type choice struct {
	alternative bool // within a multipart/alternative
	text, html  bool
}

func (b *bodies) sort(n, parent *node, c *choice) {
	if len(n.children) > 0 {
		b.sortAll(n, *c)
		return
	}
	kind := n.part.Type
	if !isBody(n, parent) {
		b.attached = append(b.attached, n.part)
		return
	}
	if parent != nil && parent.part.Type == "multipart/alternative" {
		if kind == "text/plain" {
			b.text = append(b.text, n)
		} else {
			b.html = append(b.html, n)
		}
		return
	}
	if c.alternative {
		c.html = c.html && kind != "text/plain"
		c.text = c.text && kind != "text/html"
	}
	if c.text {
		b.text = append(b.text, n)
	}
	if c.html {
		b.html = append(b.html, n)
	}
	if !c.text && !c.html {
		b.attached = append(b.attached, n.part)
	}
}

func (b *bodies) sortAll(n *node, c choice) {
	alternative := n.part.Type == "multipart/alternative"
	c.alternative = c.alternative || alternative
	text, html := len(b.text), len(b.html)
	for _, child := range n.children {
		b.sort(child, n, &c) // no deeper than MaxDepth
	}
	if !alternative || !c.text || !c.html {
		return
	}
	// What has no other form is there for both.
	newText, newHTML := b.text[text:], b.html[html:]
	switch {
	case len(newText) == 0:
		b.text = append(b.text, newHTML...)
	case len(newHTML) == 0:
		b.html = append(b.html, newText...)
	}
}

// chooseBody sets Text, HTML and Attachments.
func (m *Mail) chooseBody(w *walker) {
	var b bodies
	b.sort(w.root, nil, &choice{text: true, html: true})
	m.Attachments = b.attached
	var html, text builder
	shown := map[*node]string{}
	for _, n := range b.html {
		if n.part.Type == "text/html" {
			shown[n] = m.textOf(n)
			html.add(shown[n])
		}
	}
	plain := 0
	for _, n := range b.text {
		s, known := shown[n]
		if !known {
			s = m.textOf(n)
		}
		if n.part.Type == "text/html" {
			s = htmlText(s)
		} else {
			plain++
		}
		text.add(s)
	}
	m.HTML, m.Text = html.String(), text.String()
	m.TextFromHTML = plain == 0 && m.Text != ""
	if html.cut || text.cut {
		m.problem("", "the text is longer than is read; it is cut, and its parts can be opened")
	}
}

// textOf is a leaf's text.
func (m *Mail) textOf(n *node) string {
	octets := n.text
	n.text = nil
	if n.cut {
		m.problem(n.part.Section, "the text is longer than is read; it is cut, and the part can be opened")
		octets = wholeRunes(octets)
	}
	text, problem := toUTF8(octets, n.part.Charset)
	if problem != "" {
		m.problem(n.part.Section, problem)
	}
	return newlines.Replace(text)
}

// builder joins texts, each beginning a line, up to MaxText octets.
type builder struct {
	strings.Builder
	cut     bool
	midline bool
}

func (b *builder) add(s string) {
	if s == "" || b.cut {
		return
	}
	if b.midline {
		s = "\n" + s
	}
	fits := cutText(s, MaxText-b.Len())
	b.cut = len(fits) < len(s)
	b.midline = !strings.HasSuffix(s, "\n")
	b.WriteString(fits)
}
