package webhook

import (
	"net/mail"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/mailparse"
)

// Parsed is the JSON of the format Incoming. Every key is always there; lists are
// never null. Within a version keys are only added.
type Parsed struct {
	Version  int      `json:"version"` // 1
	Envelope Envelope `json:"envelope"`
	Mail     Mail     `json:"mail"`
	// Attachments come last: they are most of it.
	Attachments []Attachment `json:"attachments"`
}

// Mail is what a message says: see mailparse.Mail, whose names these are.
type Mail struct {
	Kind       string      `json:"kind"` // letter, auto-reply, automatic, bounce or list
	Subject    string      `json:"subject"`
	From       []Address   `json:"from"`
	ReplyTo    []Address   `json:"reply_to"`
	To         []Address   `json:"to"`
	Cc         []Address   `json:"cc"`
	Date       *time.Time  `json:"date"` // null when there is none
	MessageID  string      `json:"message_id"`
	InReplyTo  []string    `json:"in_reply_to"`
	References []string    `json:"references"`
	Recipients []Recipient `json:"recipients"` // the envelope's

	Text         string `json:"text"`
	TextFromHTML bool   `json:"text_from_html"`
	HTML         string `json:"html"`
	Reply        string `json:"reply"`
	ReplyHTML    string `json:"reply_html"`
	Signature    string `json:"signature"`

	Bounce   *Bounce     `json:"bounce"`  // null unless it is one
	List     *List       `json:"list"`    // null unless one sent it
	Headers  [][2]string `json:"headers"` // name and value, in order, values decoded
	Problems []Problem   `json:"problems"`
}

// Address is an address of a header field.
type Address struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

// Recipient is one of the envelope, and its plus-part.
type Recipient struct {
	Address string `json:"address"`
	Plus    string `json:"plus"`
}

// Bounce is what a bounce says: see mailparse.Bounce.
type Bounce struct {
	Recipients   []BouncedRecipient `json:"recipients"`
	ReportingMTA string             `json:"reporting_mta"`
	EnvelopeID   string             `json:"envelope_id"`
	MessageID    string             `json:"message_id"`
}

// BouncedRecipient is what became of one recipient.
type BouncedRecipient struct {
	Address    string `json:"address"`
	Original   string `json:"original"`
	Action     string `json:"action"`
	Status     string `json:"status"`
	Diagnostic string `json:"diagnostic"`
	RemoteMTA  string `json:"remote_mta"`
}

// List is what a mailing list says of itself: see mailparse.List.
type List struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Post        []string `json:"post"`
	Unsubscribe []string `json:"unsubscribe"`
}

// Problem is one thing wrong with the message: see mailparse.Problem.
type Problem struct {
	Section string `json:"section"`
	Text    string `json:"text"`
}

// Attachment is what is neither text nor HTML: see mailparse.Part.
type Attachment struct {
	Section     string `json:"section"`
	Name        string `json:"name"`
	Type        string `json:"type"`
	Charset     string `json:"charset"`
	ContentID   string `json:"content_id"`
	Disposition string `json:"disposition"`
	Size        int64  `json:"size"`
	Content     []byte `json:"content,omitempty"` // base64
}

// incoming is the body of the format by that name.
func (p *payload) incoming(j job) error {
	files := make([]file, len(j.mail.Attachments))
	for i, a := range j.mail.Attachments {
		files[i] = file{a, Attachment{Section: a.Section, Name: a.Name, Type: a.Type, Charset: a.Charset,
			ContentID: a.ContentID, Disposition: a.Disposition, Size: a.Size}}
	}
	p.contentType = "application/json"
	var err error
	p.segments, err = withFiles(struct {
		Version  int      `json:"version"`
		Envelope Envelope `json:"envelope"`
		Mail     Mail     `json:"mail"`
	}{Version, newEnvelope(j.Message, j.fingerprint), newMail(j.mail)}, "attachments", "content", files)
	return err
}

func newMail(m *mailparse.Mail) Mail {
	out := Mail{
		Kind: string(m.Kind), Subject: m.Subject, From: addresses(m.From), ReplyTo: addresses(m.ReplyTo), To: addresses(m.To), Cc: addresses(m.Cc),
		MessageID: m.MessageID, InReplyTo: list(m.InReplyTo), References: list(m.References), Recipients: []Recipient{},
		Text: m.Text, TextFromHTML: m.TextFromHTML, HTML: m.HTML, Reply: m.Reply(), ReplyHTML: m.ReplyHTML(), Signature: m.Signature(),
		Headers: [][2]string{}, Problems: []Problem{},
	}
	if !m.Date.IsZero() && m.Date.Year() > 0 && m.Date.Year() < 10000 { // what JSON can say
		out.Date = &m.Date
	}
	for _, r := range m.Recipients {
		out.Recipients = append(out.Recipients, Recipient(r))
	}
	if m.Bounce != nil {
		out.Bounce = &Bounce{ReportingMTA: m.Bounce.ReportingMTA, EnvelopeID: m.Bounce.EnvelopeID, MessageID: m.Bounce.MessageID,
			Recipients: []BouncedRecipient{}}
		for _, r := range m.Bounce.Recipients {
			out.Bounce.Recipients = append(out.Bounce.Recipients, BouncedRecipient(r))
		}
	}
	if m.List != nil {
		out.List = &List{ID: m.List.ID, Name: m.List.Name, Post: list(m.List.Post), Unsubscribe: list(m.List.Unsubscribe)}
	}
	for f := range m.Header.Fields() {
		out.Headers = append(out.Headers, [2]string{f.Name, mailparse.Decode(f.Value())})
	}
	for _, p := range m.Problems {
		out.Problems = append(out.Problems, Problem(p))
	}
	return out
}

func addresses(in []mail.Address) []Address {
	out := make([]Address, len(in))
	for i, a := range in {
		out[i] = Address(a)
	}
	return out
}

// list is never nil.
func list(in []string) []string {
	if in == nil {
		return []string{}
	}
	return in
}

// file is an attachment and what is said about it.
type file struct {
	part *mailparse.Part
	info any
}

// withFiles is v as a JSON object, with a last key that lists the files, each with
// its content in base64.
func withFiles(v any, key, contentKey string, files []file) ([]segment, error) {
	head, err := toJSONText(v)
	if err != nil {
		return nil, err
	}
	text := strings.TrimSuffix(head, "}") + `,"` + key + `":[`
	var out []segment
	for i, f := range files {
		info, err := toJSONText(f.info)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			text += ","
		}
		out = append(out, literal(text+strings.TrimSuffix(info, "}")+`,"`+contentKey+`":"`), inBase64(f.part))
		text = `"}`
	}
	return append(out, literal(text+"]}")), nil
}
