package webhook

import (
	"io"
	"strings"
	"time"

	"golang.org/x/text/transform"

	"github.com/incoming-mx/incoming/mailparse"
)

// What stands where Amazon names one of its own.
const (
	snsTopic        = "arn:aws:sns:us-east-1:000000000000:incoming"
	snsSubscription = snsTopic + ":00000000-0000-0000-0000-000000000000"
)

// sesNotification is what Amazon SES publishes of a message, but for content:
// https://docs.aws.amazon.com/ses/latest/dg/receiving-email-notifications-contents.html
type sesNotification struct {
	NotificationType string     `json:"notificationType"`
	Mail             sesMail    `json:"mail"`
	Receipt          sesReceipt `json:"receipt"`
}

type sesMail struct {
	Timestamp        string      `json:"timestamp"`
	Source           string      `json:"source"`
	MessageID        string      `json:"messageId"`
	Destination      []string    `json:"destination"`
	HeadersTruncated bool        `json:"headersTruncated"`
	Headers          []sesHeader `json:"headers"`
	CommonHeaders    sesCommon   `json:"commonHeaders"`
}

type sesHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type sesCommon struct {
	ReturnPath string   `json:"returnPath"`
	From       []string `json:"from"`
	ReplyTo    []string `json:"replyTo,omitempty"`
	Date       string   `json:"date,omitempty"`
	To         []string `json:"to,omitempty"`
	Cc         []string `json:"cc,omitempty"`
	MessageID  string   `json:"messageId,omitempty"`
	Subject    string   `json:"subject"`
}

type sesReceipt struct {
	Timestamp            string     `json:"timestamp"`
	ProcessingTimeMillis int64      `json:"processingTimeMillis"`
	Recipients           []string   `json:"recipients"`
	SpamVerdict          sesVerdict `json:"spamVerdict"`
	VirusVerdict         sesVerdict `json:"virusVerdict"`
	SPFVerdict           sesVerdict `json:"spfVerdict"`
	DKIMVerdict          sesVerdict `json:"dkimVerdict"`
	DMARCVerdict         sesVerdict `json:"dmarcVerdict"`
	DMARCPolicy          string     `json:"dmarcPolicy,omitempty"`
	Action               sesAction  `json:"action"`
}

type sesVerdict struct {
	Status string `json:"status"`
}

type sesAction struct {
	Type     string `json:"type"`
	TopicARN string `json:"topicArn"`
	Encoding string `json:"encoding"`
}

// snsHead is what Amazon SNS puts around a notification: the fields in front of
// Message.
type snsHead struct {
	Type      string
	MessageID string `json:"MessageId"`
	TopicARN  string `json:"TopicArn"`
	Subject   string
	Timestamp string
}

// ses is a notification by SNS over HTTP. It holds the notification of SES as a
// string, and that the message: text is escaped twice.
func (p *payload) ses(j job, now time.Time) error {
	inner, err := toJSONText(newNotification(j, now))
	if err != nil {
		return err
	}
	outer, err := toJSONText(snsHead{Type: "Notification", MessageID: j.uuid("sns"), TopicARN: snsTopic,
		Subject: "Amazon SES Email Receipt Notification", Timestamp: now.UTC().Format(timeLayout)})
	if err != nil {
		return err
	}
	escape := func() transform.Transformer { return toJSON{} }
	raw, err := measured(through(func() (io.ReadCloser, error) { return j.Open() }, escape, escape))
	if err != nil {
		return err
	}
	inner, _, err = transform.String(toJSON{}, strings.TrimSuffix(inner, "}")+`,"content":"`)
	if err != nil {
		return err
	}
	p.contentType = "text/plain; charset=UTF-8" // as SNS sends it
	p.header.Set("X-Amz-Sns-Message-Type", "Notification")
	p.header.Set("X-Amz-Sns-Message-Id", j.uuid("sns"))
	p.header.Set("X-Amz-Sns-Topic-Arn", snsTopic)
	p.header.Set("X-Amz-Sns-Subscription-Arn", snsSubscription)
	p.segments = []segment{literal(strings.TrimSuffix(outer, "}") + `,"Message":"` + inner), raw, literal(`\"}"}`)}
	return nil
}

func newNotification(j job, now time.Time) sesNotification {
	m, auth := j.mail, readAuthentication(j.Facts)
	received := j.ReceivedAt.UTC().Format(timeLayout)
	n := sesNotification{
		NotificationType: "Received",
		Mail: sesMail{
			Timestamp: received, Source: j.Envelope.MailFrom, MessageID: string(j.ID), Destination: j.Envelope.Addresses(),
			Headers: []sesHeader{{"Return-Path", "<" + j.Envelope.MailFrom + ">"}},
			CommonHeaders: sesCommon{
				ReturnPath: j.Envelope.MailFrom, From: writtenAll(m.From), ReplyTo: writtenAll(m.ReplyTo), Date: mailparse.Decode(m.Header.Get("Date")),
				To: writtenAll(m.To), Cc: writtenAll(m.Cc), MessageID: writtenID(m.MessageID), Subject: m.Subject,
			},
		},
		Receipt: sesReceipt{
			Timestamp: received, ProcessingTimeMillis: max(now.Sub(j.ReceivedAt).Milliseconds(), 0), Recipients: j.Envelope.Addresses(),
			SpamVerdict: sesVerdict{"DISABLED"}, VirusVerdict: sesVerdict{"DISABLED"},
			SPFVerdict: sesVerdict{verdict(auth.SPF)}, DKIMVerdict: sesVerdict{verdict(auth.dkim())}, DMARCVerdict: sesVerdict{verdict(auth.DMARC)},
			Action: sesAction{Type: "SNS", TopicARN: snsTopic, Encoding: "UTF8"},
		},
	}
	if auth.DMARC == "fail" {
		n.Receipt.DMARCPolicy = auth.Asked
	}
	for f := range m.Header.Fields() {
		n.Mail.Headers = append(n.Mail.Headers, sesHeader{f.Name, mailparse.Decode(f.Value())})
	}
	return n
}
