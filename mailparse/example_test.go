package mailparse_test

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/incoming-mx/incoming/mailparse"
)

// A message in a file, and one that is attached to it.
func ExampleReadFrom() {
	mail, err := mailparse.ReadFrom(func() (io.ReadCloser, error) { return os.Open("testdata/attached-message.eml") })
	if err != nil {
		log.Fatal(err) // the file cannot be read; mail is never too broken
	}
	fmt.Println(mail.Subject, mail.Text)
	for _, a := range mail.Attachments {
		if a.Type != "message/rfc822" {
			continue
		}
		inner, err := mailparse.ReadFrom(a.Open)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(a.Name, inner.Subject, inner.Text)
	}
	// Output:
	// attached See the message.
	// Lunch.eml inner inner text
}

// What became of mail that was sent earlier.
func ExampleMail_bounce() {
	mail, err := mailparse.ReadFrom(func() (io.ReadCloser, error) { return os.Open("testdata/dsn-postfix.eml") })
	if err != nil {
		log.Fatal(err)
	}
	if mail.Kind == mailparse.KindBounce {
		for _, r := range mail.Bounce.Recipients {
			fmt.Println(mail.Bounce.MessageID, r.Address, r.Action, r.Status)
		}
	}
	// Output:
	// sent-1@example.org nobody@example.com failed 5.1.1
	// sent-1@example.org slow@example.com delayed 4.4.1
}
