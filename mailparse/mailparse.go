// Package mailparse reads what a message says: subject and addresses, text,
// attachments, the answer without what it quotes, and what kind of mail it is.
//
// It reads the message once, as a stream, and remembers where each part lies;
// [Part.Open] reads a part from where the message is stored. So a message of any
// size takes the memory of its text, which is bounded (see [MaxText]), and of its
// header. The work is linear in the size of the message, however it is nested.
//
// Mail is never too broken for it: what can be read is there, and
// [Mail.Problems] says what could not. An error is always the storage's.
//
// It knows no SMTP and sends nothing. What it says is the sender's word: names,
// addresses, types and file names are to be believed as little as the text.
package mailparse

import (
	"errors"
	"io"
	"net/mail"
	"time"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/queue"
)

// What is read of a message, at most. What lies beyond a limit is told of in
// Problems.
const (
	// MaxParts is how many parts are read; a part that has parts counts, the
	// message itself does not. The message is not read any further then.
	MaxParts = 1000
	// MaxDepth is how many multiparts may lie in one another. One that lies
	// deeper is an attachment: it can be opened, and read by ReadFrom.
	MaxDepth = 20
	// MaxHeader is the octets of header fields, of the message and all its parts
	// together, and MaxFields their number. Fields beyond are left out.
	MaxHeader = 1 << 20
	MaxFields = 10_000
	// MaxText is the octets of Mail.Text, and of Mail.HTML. What is longer is
	// cut; its part can be opened.
	MaxText = 1 << 20
	// MaxAddresses is how many addresses of a header field are read.
	MaxAddresses = 10_000
	// MaxProblems is how many problems are told of.
	MaxProblems = 100
)

// Mail is what a message says. It may be read by many goroutines. All text in it is UTF-8, with \n at the end of a
// line; that of header fields is without line ends and control characters.
type Mail struct {
	// Subject is "" when there is none.
	Subject string
	// From, ReplyTo, To and Cc are the addresses of the fields of that name, nil
	// when there are none. Domains are as written. An Address may be without "@",
	// or "": some programs write no more than a name.
	From, ReplyTo, To, Cc []mail.Address
	// Date is when the sender says that it wrote; zero when it does not, or not
	// intelligibly.
	Date time.Time
	// MessageID is without the angle brackets, as are InReplyTo and References,
	// which is in the order given: the nearest message comes last.
	MessageID             string
	InReplyTo, References []string

	// Text is the text to be read: the plain text, or where the sender gave
	// HTML alone, the text in that; then TextFromHTML is true.
	Text         string
	TextFromHTML bool
	// HTML is the text as HTML; "" when the sender gave plain text alone. It is
	// the sender's: clean it before it is shown.
	HTML string
	// Attachments is all that is neither Text nor HTML, in order: also pictures
	// that HTML shows by their ContentID.
	Attachments []*Part
	// Parts is all that is not a multipart, Attachments among them, in order.
	Parts []*Part

	// Kind is what kind of mail it is.
	Kind Kind
	// Bounce is nil unless Kind is KindBounce, and List unless a mailing list sent it.
	Bounce *Bounce
	List   *List

	// Recipients is whom Read's message is for, from the envelope; nil from
	// ReadFrom.
	Recipients []Recipient

	// Header is all the header fields of the message, as they stand there.
	Header header.Header

	// Problems is what is wrong with the message, and what was therefore guessed
	// or left out; nil when nothing is.
	Problems []Problem

	answer answer
}

// Recipient is an address of the envelope.
type Recipient struct {
	Address string
	// Plus is the plus-part: "billing" of support+billing@example.org.
	Plus string
}

// Problem is one thing wrong with a message.
type Problem struct {
	// Section is the part's, see Part; "" when it is the message's as a whole.
	Section string
	Text    string
}

func (p Problem) String() string {
	if p.Section == "" {
		return p.Text
	}
	return "part " + p.Section + ": " + p.Text
}

// Opener opens a message at its start; each call is a reading of its own, which
// the caller closes. If what it returns is an io.Seeker, parts are sought;
// otherwise what lies before them is read over.
type Opener func() (io.ReadCloser, error)

// Read reads a message of the queue. Parts can be opened as long as m can be
// read: until Deliver returns. The error is the storage's; mail is never too
// broken to be read.
func Read(m *queue.Message) (*Mail, error) {
	r := reading{open: func() (io.ReadCloser, error) { return m.Open() }, bounceTo: m.Envelope.MailFrom == ""}
	out, err := r.read()
	if err != nil {
		return nil, err
	}
	for _, address := range m.Envelope.Addresses() {
		_, plus := SplitPlus(address)
		out.Recipients = append(out.Recipients, Recipient{Address: address, Plus: plus})
	}
	return out, nil
}

// ReadFrom reads a message from anywhere: a file, or a message that is attached
// to another, by that part's Open. open is called once, and once more for each
// part that is opened. The error is the reader's.
func ReadFrom(open Opener) (*Mail, error) {
	r := reading{open: open}
	return r.read()
}

// ReadAt reads a message of size octets from r, which must stay readable as long
// as parts are opened. The error is r's.
func ReadAt(r io.ReaderAt, size int64) (*Mail, error) {
	return ReadFrom(func() (io.ReadCloser, error) {
		return sectionCloser{io.NewSectionReader(r, 0, size)}, nil
	})
}

type sectionCloser struct{ *io.SectionReader }

func (sectionCloser) Close() error { return nil }

// reading is one reading of a message.
type reading struct {
	open     Opener
	bounceTo bool // the envelope's sender is the null one
}

func (r *reading) read() (*Mail, error) {
	text, err := r.open()
	if err != nil {
		return nil, err
	}
	w := newWalker(text, r.open)
	if err := errors.Join(w.walk(), text.Close()); err != nil {
		return nil, err
	}
	m := w.mail
	m.readFields()
	m.chooseBody(w)
	m.judge(w, r.bounceTo)
	return m, nil
}

// problem notes one, unless there are many.
func (m *Mail) problem(section, text string) {
	switch n := len(m.Problems); {
	case n == MaxProblems:
	case n == MaxProblems-1:
		m.Problems = append(m.Problems, Problem{Text: "there are more problems than are told of"})
	default:
		m.Problems = append(m.Problems, Problem{Section: section, Text: text})
	}
}

// readFields reads the fields that Mail has by name.
func (m *Mail) readFields() {
	h := m.Header
	m.Subject = Decode(h.Get("Subject"))
	m.From = m.addresses("From")
	m.ReplyTo = m.addresses("Reply-To")
	m.To = m.addresses("To")
	m.Cc = m.addresses("Cc")
	if ids := messageIDs(h.Get("Message-ID")); len(ids) > 0 {
		m.MessageID = ids[0]
	}
	m.InReplyTo = messageIDs(h.Joined("In-Reply-To"))
	m.References = messageIDs(h.Joined("References"))
	if v := h.Get("Date"); v != "" {
		var ok bool
		if m.Date, ok = parseDate(v); !ok {
			m.problem("", "the Date cannot be understood")
		}
	}
}

func (m *Mail) addresses(name string) []mail.Address {
	list := Addresses(m.Header.Joined(name))
	if len(list) == MaxAddresses {
		m.problem("", name+" has more addresses than are read")
	}
	return list
}
