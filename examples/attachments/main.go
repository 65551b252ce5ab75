// Attachments puts what is attached to a message on the disk, as it streams: a file
// of any size takes no memory. The names are ours, for the sender's may be anything.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/examples/internal/letter"
	"github.com/incoming-mx/incoming/mailparse"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

const text = "From: alice@example.net\r\nSubject: two files\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
	"--b\r\n\r\nHere they are.\r\n" +
	"--b\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=\"../../numbers.csv\"\r\n\r\n1,2,3\r\n" +
	"--b\r\nContent-Type: image/gif\r\nContent-Disposition: attachment; filename=dot.gif\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
	"R0lGODlhAQABAAAAACw=\r\n--b--\r\n"

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, err := os.MkdirTemp("", "attachments")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	srv, err := incoming.New(incoming.Config{
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0"}},
		Queue:     memqueue.New(nil),
		Adapter: incoming.AdapterFunc(func(_ context.Context, m *incoming.Message) error {
			defer stop()
			return save(dir, m)
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := letter.SendText(srv, "alice@example.net", []string{"files@example.org"}, text); err != nil {
			log.Fatal(err)
		}
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// save writes each attachment to a file named by the message's ID, so that a message
// that is delivered again writes the same files.
func save(dir string, m *incoming.Message) error {
	mail, err := mailparse.Read(m)
	if err != nil {
		return err
	}
	for i, part := range mail.Attachments {
		name := filepath.Join(dir, fmt.Sprintf("%s.%d", m.ID, i+1))
		n, err := write(name, part)
		if err != nil {
			return err // tried again
		}
		fmt.Printf("%s, called %q: %d octets\n", part.Type, part.Name, n)
	}
	return nil
}

func write(name string, part *mailparse.Part) (n int64, err error) {
	from, err := part.Open()
	if err != nil {
		return 0, err
	}
	defer from.Close()
	to, err := os.Create(name + ".part")
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(to, from)
	if err = errors.Join(err, to.Sync(), to.Close()); err != nil {
		return 0, err
	}
	return n, os.Rename(name+".part", name)
}
