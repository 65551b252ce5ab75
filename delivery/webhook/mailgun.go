package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/mailparse"
)

// newToken is 50 characters nobody can guess, another for each request: receivers
// keep them to tell a request that somebody sends again.
func newToken() string {
	var b [25]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// mailgun is what a forward() of Mailgun's routes posts, fully parsed:
// https://documentation.mailgun.com/docs/mailgun/user-manual/receive-forward-store/receive-http
func (p *payload) mailgun(j job, key []byte, now time.Time, token string) error {
	p.single(j)
	fields, err := mailgunFields(j, key, now, token)
	if err != nil {
		return err
	}
	if len(j.mail.Attachments) == 0 {
		p.contentType = "application/x-www-form-urlencoded"
		for i, f := range fields {
			separator := "&"
			if i == 0 {
				separator = ""
			}
			p.segments = append(p.segments, literal(separator+url.QueryEscape(f[0])+"="+url.QueryEscape(f[1])))
		}
		return nil
	}
	f := newForm(j.ID)
	for _, field := range fields {
		f.field(field[0], field[1])
	}
	for i, a := range j.mail.Attachments {
		name := "attachment-" + strconv.Itoa(i+1)
		f.file(name, fileName(a, name), a.Type, content(a))
	}
	p.contentType, p.segments = f.end()
	return nil
}

// mailgunFields is all but the attachments, in order.
func mailgunFields(j job, key []byte, now time.Time, token string) ([][2]string, error) {
	m := j.mail
	header := mailgunHeader(j)
	headers, err := toJSONText(header)
	if err != nil {
		return nil, err
	}
	stamp := strconv.FormatInt(now.Unix(), 10)
	fields := [][2]string{
		{"recipient", j.rcpt()},
		{"sender", j.Envelope.MailFrom},
		{"from", writtenList(m.From)},
		{"subject", m.Subject},
		{"body-plain", m.Text},
		{"stripped-text", m.Reply()},
		{"timestamp", stamp},
		{"token", token},
		{"signature", mailgunSignature(key, stamp, token)},
		{"message-headers", headers},
	}
	if signature := m.Signature(); signature != "" {
		fields = append(fields, [2]string{"stripped-signature", signature})
	}
	if m.HTML != "" {
		fields = append(fields, [2]string{"body-html", m.HTML}, [2]string{"stripped-html", m.ReplyHTML()})
	}
	if n := len(m.Attachments); n > 0 {
		ids, err := mailgunContentIDs(m)
		if err != nil {
			return nil, err
		}
		fields = append(fields, [2]string{"attachment-count", strconv.Itoa(n)}, [2]string{"content-id-map", ids})
	}
	for _, h := range header {
		if isMailgunField(h[0]) {
			fields = append(fields, h)
		}
	}
	return fields, nil
}

// mailgunSignature is HMAC-SHA256 over timestamp and token, in hexadecimal.
func mailgunSignature(key []byte, stamp, token string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(stamp + token)) // a hash takes everything
	return hex.EncodeToString(mac.Sum(nil))
}

// mailgunHeader is the header fields in order, their values decoded, below those
// that Mailgun adds.
func mailgunHeader(j job) [][2]string {
	auth := readAuthentication(j.Facts)
	header := [][2]string{{"X-Mailgun-Incoming", "Yes"}, {"X-Envelope-From", "<" + j.Envelope.MailFrom + ">"}}
	if auth.looked() {
		header = append(header, [2]string{"X-Mailgun-Spf", title(auth.SPF)}, [2]string{"X-Mailgun-Dkim-Check-Result", title(auth.dkim())})
	}
	for f := range j.mail.Header.Fields() {
		header = append(header, [2]string{textproto.CanonicalMIMEHeaderKey(f.Name), mailparse.Decode(f.Value())})
	}
	return header
}

// isMailgunField reports whether a header field is also a form field. A sender
// must not be able to set one that a framework, which may not tell upper from
// lower case, takes for Mailgun's own.
func isMailgunField(name string) bool {
	switch strings.ToLower(name) {
	case "recipient", "body-plain", "body-html", "body-mime", "stripped-text", "stripped-html", "stripped-signature",
		"timestamp", "token", "signature", "message-headers", "attachment-count", "content-id-map", "attachments", "message-url":
		return false
	}
	return !strings.HasPrefix(strings.ToLower(name), "attachment-") &&
		!strings.ContainsFunc(name, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		})
}

func mailgunContentIDs(m *mailparse.Mail) (string, error) {
	ids := map[string]string{}
	for i, a := range m.Attachments {
		if a.ContentID != "" {
			ids[writtenID(a.ContentID)] = "attachment-" + strconv.Itoa(i+1)
		}
	}
	return toJSONText(ids)
}
