package mailparse

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/incoming-mx/incoming/header"
)

// node is a place in the tree of parts.
type node struct {
	part     *Part
	children []*node
	text     []byte // what is kept of a leaf's octets, its transfer encoding taken off
	cut      bool   // text is not all
}

// level is a multipart that is open.
type level struct {
	*node
	boundary []byte // without the hyphens in front
}

// walker reads a message once, from start to end, and builds the tree. It stands
// in a header, in a leaf, or, when both are nil, between parts.
type walker struct {
	in   *bufio.Reader
	open Opener
	mail *Mail
	root *node

	at      int64 // where the next line begins
	levels  []level
	head    *head
	leaf    *leaf
	scratch []byte

	parts      int
	headerLeft int
	fieldsLeft int
	textLeft   map[string]int // by type
}

func newWalker(text io.Reader, open Opener) *walker {
	return &walker{
		in: bufio.NewReaderSize(text, 64<<10), open: open, mail: &Mail{},
		headerLeft: MaxHeader, fieldsLeft: MaxFields,
		textLeft: map[string]int{"text/plain": MaxText, "text/html": MaxText},
	}
}

// postmark is what an mbox has before each message (RFC 4155).
var postmark = regexp.MustCompile(`^>?From \S+ +(Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z][a-z] `)

// errStop ends the walk before the message does.
var errStop = errors.New("mailparse: enough")

// walk reads the message. A line longer than the buffer comes in pieces, of which
// only the first can be a delimiter.
func (w *walker) walk() error {
	w.begin(nil)
	start := true
	for {
		piece, err := w.in.ReadSlice('\n')
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return err
		}
		if w.line(piece, start, err == io.EOF) == errStop {
			w.end()
			return nil
		}
		w.at += int64(len(piece))
		start = err == nil
		if err == io.EOF {
			w.unclosed()
			w.end()
			return nil
		}
	}
}

// line takes a line, or a piece of one: start says that it is the first.
func (w *walker) line(piece []byte, start, last bool) error {
	if start && bytes.HasPrefix(piece, []byte("--")) {
		if depth, closes, found := w.delimiter(piece[2:]); found {
			return w.delimit(depth, closes)
		}
	}
	if w.head != nil {
		if start && w.head.parent == nil && postmark.Match(piece) {
			w.mail.problem("", "there is a line of an mbox among the header fields; it is left out")
			return nil
		}
		if w.head.take(piece, last) {
			return nil
		}
		empty := len(bytes.TrimRight(piece, "\r\n")) == 0
		if empty {
			w.headed(w.at + int64(len(piece)))
			return nil
		}
		w.headed(w.at)
	}
	if w.leaf != nil {
		w.leaf.line(w, piece)
	}
	return nil
}

// delimiter finds the open multipart, innermost first, that a line delimits
// (RFC 2046 §5.1.1).
func (w *walker) delimiter(line []byte) (depth int, closes, found bool) {
	line = bytes.TrimRight(line, " \t\r\n")
	for i := len(w.levels) - 1; i >= 0; i-- {
		rest, ok := bytes.CutPrefix(line, w.levels[i].boundary)
		if ok && (len(rest) == 0 || string(rest) == "--") {
			return i, len(rest) > 0, true
		}
	}
	return 0, false, false
}

// delimit ends what is open below the multipart at depth, and begins its next
// part, unless the delimiter closes it.
func (w *walker) delimit(depth int, closes bool) error {
	if w.head != nil {
		w.headed(w.at)
	}
	if len(w.levels)-1 > depth {
		w.mail.problem(w.levels[len(w.levels)-1].part.Section, "the multipart is not closed")
	}
	w.endLeaf(true)
	w.pop(depth + 1)
	if closes {
		w.pop(depth)
		return nil
	}
	if w.parts == MaxParts {
		w.mail.problem("", fmt.Sprintf("there are more than %d parts; those beyond are left out", MaxParts))
		return errStop
	}
	w.parts++
	w.begin(w.levels[depth].node)
	return nil
}

// begin begins a part of parent, or the message, with its header.
func (w *walker) begin(parent *node) {
	n := &node{part: &Part{open: w.open}}
	if parent == nil {
		w.root = n
	} else {
		parent.text = nil // what stood before its first part is not read
		parent.children = append(parent.children, n)
		n.part.Section = fmt.Sprintf("%s%d", parent.prefix(), len(parent.children))
	}
	w.head = &head{node: n, parent: parent, walker: w}
}

func (n *node) prefix() string {
	if n.part.Section == "" {
		return ""
	}
	return n.part.Section + "."
}

// headed ends a header; what follows begins at the octet body.
func (w *walker) headed(body int64) {
	h := w.head
	w.head = nil
	fields := header.Parse(h.text)
	if h.parent == nil {
		w.mail.Header = fields
	}
	if h.cut {
		w.mail.problem(h.part.Section, "the header is too long; the fields beyond are left out")
	}
	if note := h.part.describe(fields, h.parent, h.cut); note != "" {
		w.mail.problem(h.part.Section, note)
	}
	h.part.offset = body
	if strings.HasPrefix(h.part.Type, "multipart/") {
		if w.push(h.node) {
			return
		}
	} else if h.parent == nil {
		h.part.Section = "1"
	}
	w.leaf = newLeaf(h.node, h.part.Encoding, w.keeps(h.node, h.parent))
	if !knownEncoding(h.part.Encoding) {
		w.mail.problem(h.part.Section, fmt.Sprintf("the transfer encoding %.40q is not known; the text is as it stands", h.part.Encoding))
	}
}

// push opens a multipart. Until its first delimiter comes, what there is is kept
// as the text of a leaf, in case none comes.
func (w *walker) push(n *node) bool {
	switch {
	case len(n.part.boundary) == 0:
		w.mail.problem(n.part.Section, "the multipart has no boundary; its text is read as plain text")
		n.part.plain()
	case len(w.levels) == MaxDepth:
		w.mail.problem(n.part.Section, fmt.Sprintf("more than %d multiparts lie in one another", MaxDepth))
	default:
		w.levels = append(w.levels, level{n, []byte(n.part.boundary)})
		w.leaf = newLeaf(n, "", w.textLeft["text/plain"])
		return true
	}
	if len(w.levels) == 0 {
		n.part.Section = "1"
	}
	return false
}

// pop ends the multiparts from depth on.
func (w *walker) pop(depth int) {
	for i := len(w.levels) - 1; i >= depth; i-- {
		n := w.levels[i].node
		if len(n.children) == 0 {
			w.mail.problem(n.part.Section, "the multipart has no parts; its text is read as plain text")
			n.part.plain()
			if i == 0 {
				n.part.Section = "1"
			}
			w.textLeft["text/plain"] -= len(n.text)
		}
	}
	w.levels = w.levels[:min(depth, len(w.levels))]
}

// endLeaf ends the leaf that is open, if one is: at a delimiter or at the end of
// the message.
func (w *walker) endLeaf(delimited bool) {
	l := w.leaf
	if l == nil {
		return
	}
	w.leaf = nil
	if !delimited {
		l.emit(w, l.hold)
	}
	w.scratch = l.dec.flush(w.scratch[:0])
	l.take(w.scratch)
	if junk := l.dec.junk(); junk != "" {
		w.mail.problem(l.part.Section, junk)
	}
	if _, counted := w.textLeft[l.part.Type]; counted {
		w.textLeft[l.part.Type] -= len(l.text)
	}
}

// unclosed notes that the message ended in the middle.
func (w *walker) unclosed() {
	if n := len(w.levels); n > 0 && len(w.levels[n-1].children) > 0 {
		w.mail.problem(w.levels[n-1].part.Section, "the multipart is not closed: the message ends before")
	}
}

// end ends all that is open.
func (w *walker) end() {
	if w.head != nil {
		w.headed(w.at)
	}
	w.endLeaf(false)
	w.pop(0)
	w.root.each(func(n *node) { w.mail.Parts = append(w.mail.Parts, n.part) })
}

// each yields the leaves in order.
func (n *node) each(yield func(*node)) {
	if len(n.children) == 0 {
		yield(n)
	}
	for _, c := range n.children {
		c.each(yield) // no deeper than MaxDepth
	}
}

// head is a header that is being read.
type head struct {
	*node
	parent  *node
	walker  *walker
	scanner header.Scanner
	text    []byte
	fields  int
	cut     bool
}

// take takes a line, or a piece of one, unless it ends the header: then it is
// not the header's, and the answer is false.
func (h *head) take(piece []byte, last bool) bool {
	h.scanner.Write(piece)
	if last {
		h.scanner.Write([]byte("\n")) // so that a line without its end is judged
	}
	if h.scanner.Done() {
		return last && len(piece) == 0
	}
	w := h.walker
	fields := h.scanner.Fields() - h.fields
	h.fields = h.scanner.Fields()
	if h.cut = h.cut || len(piece) > w.headerLeft || fields > w.fieldsLeft; h.cut {
		return true
	}
	w.headerLeft -= len(piece)
	w.fieldsLeft -= fields
	h.text = append(h.text, piece...)
	return true
}

// leaf is a part that has no parts and is being read. The line end before a
// delimiter is the delimiter's, so one is held until the next line is known.
type leaf struct {
	*node
	dec  decoder
	keep int // octets that may be kept
	hold []byte
}

func newLeaf(n *node, encoding string, keep int) *leaf {
	return &leaf{node: n, dec: newDecoder(encoding), keep: keep}
}

func (l *leaf) line(w *walker, piece []byte) {
	if string(l.hold) == "\r" && string(piece) == "\n" {
		l.hold = append(l.hold, '\n')
		return
	}
	l.emit(w, l.hold)
	text := bytes.TrimSuffix(piece, []byte("\n"))
	text = bytes.TrimSuffix(text, []byte("\r"))
	l.emit(w, text)
	l.hold = append(l.hold[:0], piece[len(text):]...)
}

func (l *leaf) emit(w *walker, p []byte) {
	if len(p) == 0 {
		return
	}
	l.part.length += int64(len(p))
	w.scratch = l.dec.decode(w.scratch[:0], p)
	l.take(w.scratch)
}

func (l *leaf) take(p []byte) {
	l.part.Size += int64(len(p))
	n := min(len(p), l.keep-len(l.text))
	l.text = append(l.text, p[:n]...)
	l.cut = l.cut || n < len(p)
}

// keeps is how many octets of a leaf are kept in memory.
func (w *walker) keeps(n, parent *node) int {
	switch {
	case n.part.Type == "message/delivery-status" || n.part.Type == "message/global-delivery-status":
		return maxReport
	case parent != nil && parent.part.Type == "multipart/report" && n.part.returned():
		return maxReport
	case isBody(n, parent):
		return w.textLeft[n.part.Type] // none of pictures
	}
	return 0
}
