package mailparse

import (
	"strings"

	"golang.org/x/net/html"
)

// htmlText is the text in HTML, as lines: without markup, scripts and styles;
// quotes with "> " in front. Where links lead is not said.
func htmlText(s string) string {
	t := textWriter{lines: 2}
	z := html.NewTokenizer(strings.NewReader(s))
	skip := "" // the element whose text is not shown
	for t.out.Len() < MaxText {
		switch z.Next() {
		case html.ErrorToken: // the end: a string has no other error
			return strings.TrimSpace(t.out.String())
		case html.TextToken:
			if skip == "" {
				t.text(string(z.Text()))
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			if tag := string(name); hidden(tag) {
				skip = tag
			} else {
				t.start(tag, z, more)
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			if tag := string(name); tag == skip {
				skip = ""
			} else {
				t.end(tag)
			}
		}
	}
	return strings.TrimSpace(cutText(t.out.String(), MaxText))
}

// hidden: the tokenizer gives all their content as one text.
func hidden(tag string) bool {
	return tag == "script" || tag == "style" || tag == "title" || tag == "noscript" || tag == "textarea" || tag == "xmp"
}

// textWriter lays out text.
type textWriter struct {
	out   strings.Builder
	lines int  // line ends at the end of out
	space bool // there was white space that has not been written
	pre   int
	quote int
}

// maxQuote is how deep quotes are shown.
const maxQuote = 10

func (t *textWriter) text(s string) {
	if t.pre > 0 {
		for line := range strings.Lines(newlines.Replace(s)) {
			t.word(strings.TrimSuffix(line, "\n"))
			if strings.HasSuffix(line, "\n") {
				t.newline()
			}
		}
		return
	}
	for i, w := range strings.FieldsFunc(s, isHTMLSpace) {
		t.space = t.space || i > 0 || isHTMLSpace(rune(s[0]))
		t.word(strings.ReplaceAll(w, "\u00a0", " "))
	}
	t.space = s != "" && isHTMLSpace(rune(s[len(s)-1]))
}

func isHTMLSpace(r rune) bool { return r == ' ' || r == '\t' || r == '\n' || r == '\r' || r == '\f' }

func (t *textWriter) word(w string) {
	if w == "" {
		return
	}
	if t.lines > 0 {
		t.out.WriteString(strings.Repeat("> ", min(max(t.quote, 0), maxQuote)))
	} else if t.space {
		t.out.WriteByte(' ')
	}
	t.out.WriteString(w)
	t.lines, t.space = 0, false
}

func (t *textWriter) newline() {
	t.out.WriteByte('\n')
	t.lines++
	t.space = false
}

// block begins a line, behind empty ones where so many are wanted.
func (t *textWriter) block(empty int) {
	for t.lines < 1+empty {
		t.newline()
	}
}

func (t *textWriter) start(tag string, z *html.Tokenizer, more bool) {
	switch tag {
	case "br":
		if t.lines < 2 {
			t.newline()
		}
	case "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table":
		t.block(1)
	case "div", "tr", "hr", "dl", "dt", "dd", "section", "article", "header", "footer", "address", "form", "center":
		t.block(0)
	case "li":
		t.block(0)
		t.word("-")
		t.space = true
	case "td", "th":
		t.space = true
	case "pre":
		t.block(1)
		t.pre++
	case "blockquote":
		t.block(0)
		t.quote++
	case "img":
		if alt := attribute(z, more, "alt"); alt != "" {
			t.text(" " + alt + " ")
		}
	}
}

func (t *textWriter) end(tag string) {
	switch tag {
	case "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table":
		t.block(1)
	case "div", "tr", "li", "dl", "section", "article", "header", "footer", "address", "form", "center":
		t.block(0)
	case "pre":
		t.block(0)
		t.pre = max(t.pre-1, 0)
	case "blockquote":
		t.block(0)
		t.quote = max(t.quote-1, 0)
	}
}

// attribute is the value of one of a tag's attributes; "" when there is none. It
// reads all of them.
func attribute(z *html.Tokenizer, more bool, name string) (value string) {
	for more {
		var k, v []byte
		if k, v, more = z.TagAttr(); string(k) == name {
			value = string(v)
		}
	}
	return value
}

// stripHTML is HTML without the quoted history, as far as the program that wrote
// it marks that.
func stripHTML(s string) string {
	var out strings.Builder
	z := html.NewTokenizer(strings.NewReader(s))
	var open []string // elements
	inside, depth := "", 0
	cut := false // all that follows is history
	for at := 0; ; {
		kind := z.Next()
		if kind == html.ErrorToken {
			return out.String()
		}
		raw := string(z.Raw())
		at += len(raw)
		name, more := z.TagName()
		tag := string(name)
		switch {
		case inside != "": // a quote ends with its element
			if tag == inside && kind == html.StartTagToken {
				depth++
			} else if tag == inside && kind == html.EndTagToken {
				depth--
			}
			if depth == 0 {
				inside = ""
			}
		case kind == html.StartTagToken && !isVoid(tag):
			marked, rest := quoteMark(tag, z, more, s[at:])
			if marked && !rest {
				inside, depth = tag, 1
				continue
			}
			if cut = cut || marked; !cut {
				open = append(open, tag)
				out.WriteString(raw)
			}
		case kind == html.EndTagToken && cut:
			if n := len(open); n > 0 && open[n-1] == tag {
				open = open[:n-1]
				out.WriteString(raw)
			}
		case !cut:
			if n := len(open); kind == html.EndTagToken && n > 0 && open[n-1] == tag {
				open = open[:n-1]
			}
			out.WriteString(raw)
		}
	}
}

func isVoid(tag string) bool {
	switch tag {
	case "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr":
		return true
	}
	return false
}

// quoteMark reports whether a tag begins quoted history: its element, or all that
// follows.
func quoteMark(tag string, z *html.Tokenizer, more bool, following string) (marked, rest bool) {
	for more {
		var k, v []byte
		k, v, more = z.TagAttr()
		value := strings.ToLower(string(v))
		switch string(k) {
		case "type":
			marked = marked || tag == "blockquote" && value == "cite"
		case "id":
			rest = rest || value == "divrplyfwdmsg" || value == "appendonsend" || value == "mail-editor-reference-message-container"
			marked = marked || rest || value == "yahoo_quoted"
		case "class":
			for _, class := range strings.Fields(value) {
				switch class {
				case "gmail_quote", "gmail_quote_container", "yahoo_quoted", "moz-cite-prefix", "protonmail_quote", "zmail_extra":
					marked = true
				}
			}
		}
	}
	// Some mark what is forwarded in the same way.
	if marked && forwarded.MatchString(following[:min(len(following), 400)]) {
		return false, false
	}
	return marked, rest
}
