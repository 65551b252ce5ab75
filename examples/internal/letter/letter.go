// Package letter sends the examples their mail, as any client would.
package letter

import (
	"errors"
	"fmt"
	"io"
	"net/smtp"
	"net/textproto"
	"strings"

	"github.com/incoming-mx/incoming"
)

// Send waits until srv listens and sends it one message. The error is what the
// server refused it with, "550 5.7.1 No", in the same words whatever the version
// of Go, and without the reference, which is another each time.
func Send(srv *incoming.Server, from string, to []string, subject string) error {
	return SendText(srv, from, to, fmt.Sprintf("From: %s\r\nSubject: %s\r\n\r\nHello.\r\n", from, subject))
}

// SendText is Send for a message that is given whole, header and all.
func SendText(srv *incoming.Server, from string, to []string, text string) error {
	err := send(srv, from, to, text)
	var refusal *textproto.Error
	if errors.As(err, &refusal) {
		text, _, _ := strings.Cut(refusal.Msg, " (ref ")
		return fmt.Errorf("%d %s", refusal.Code, text)
	}
	return err
}

func send(srv *incoming.Server, from string, to []string, text string) error {
	<-srv.Ready()
	c, err := smtp.Dial(srv.Addr("").String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Mail(from); err != nil {
		return err
	}
	for _, rcpt := range to {
		if err := c.Rcpt(rcpt); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	// It is accepted. A server that shuts down meanwhile says 421 to QUIT.
	_ = c.Quit()
	return nil
}
