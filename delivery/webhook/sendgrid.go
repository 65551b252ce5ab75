package webhook

import (
	"strconv"
	"strings"

	"github.com/incoming-mx/incoming/mailparse"
)

// sendGrid is the body of SendGrid's Inbound Parse:
// https://www.twilio.com/docs/sendgrid/for-developers/parsing-email/setting-up-the-inbound-parse-webhook
func (p *payload) sendGrid(j job) error {
	m, auth := j.mail, readAuthentication(j.Facts)
	envelope, err := toJSONText(struct {
		To   []string `json:"to"`
		From string   `json:"from"`
	}{j.Envelope.Addresses(), j.Envelope.MailFrom})
	if err != nil {
		return err
	}
	f := newForm(j.ID)
	f.field("headers", headerText(m))
	f.field("dkim", auth.sendGridDKIM())
	charsets := map[string]string{}
	header := func(name, value string) {
		charsets[name] = "UTF-8" // all of it is
		f.field(name, value)
	}
	header("to", writtenList(m.To))
	header("from", writtenList(m.From))
	if len(m.Cc) > 0 {
		header("cc", writtenList(m.Cc))
	}
	header("subject", m.Subject)
	if text := plain(m); text != "" {
		header("text", text)
	}
	if m.HTML != "" {
		header("html", m.HTML)
	}
	f.field("sender_ip", j.peerIP())
	f.field("envelope", envelope)
	if auth.looked() {
		f.field("SPF", auth.SPF)
	} else {
		f.field("SPF", "none")
	}
	f.field("attachments", strconv.Itoa(len(m.Attachments)))
	if err := sendGridFiles(f, m); err != nil {
		return err
	}
	sets, err := toJSONText(charsets)
	if err != nil {
		return err
	}
	f.field("charsets", sets)
	p.contentType, p.segments = f.end()
	return nil
}

// headerText is the header as it stands, a field on a line.
func headerText(m *mailparse.Mail) string {
	var b strings.Builder
	for field := range m.Header.Fields() {
		b.WriteString(field.Name + ": " + strings.ToValidUTF8(field.Value(), "\ufffd") + "\n")
	}
	return b.String()
}

type sendGridFile struct {
	Filename  string `json:"filename"`
	Name      string `json:"name"`
	Charset   string `json:"charset,omitempty"`
	Type      string `json:"type"`
	ContentID string `json:"content-id,omitempty"`
}

// sendGridFiles adds the attachments, and what is said about them: nothing when
// there are none.
func sendGridFiles(f *form, m *mailparse.Mail) error {
	if len(m.Attachments) == 0 {
		return nil
	}
	info, ids := map[string]sendGridFile{}, map[string]string{}
	for i, a := range m.Attachments {
		field := "attachment" + strconv.Itoa(i+1)
		name := fileName(a, field)
		info[field] = sendGridFile{Filename: name, Name: name, Charset: a.Charset, Type: a.Type, ContentID: a.ContentID}
		if a.ContentID != "" {
			ids[a.ContentID] = field
		}
	}
	text, err := toJSONText(info)
	if err != nil {
		return err
	}
	f.field("attachment-info", text)
	if len(ids) > 0 {
		if text, err = toJSONText(ids); err != nil {
			return err
		}
		f.field("content-ids", text)
	}
	for i, a := range m.Attachments {
		field := "attachment" + strconv.Itoa(i+1)
		f.file(field, info[field].Filename, a.Type, content(a))
	}
	return nil
}
