package maildir

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/delivery/deliverytest"
)

// Not parallel: it measures memory.
func TestTheAdapterKeepsTheContract(t *testing.T) {
	for name, path := range map[string]string{"one for all": "mail", "one a recipient": "mail/{rcpt}"} {
		t.Run(name, func(t *testing.T) {
			deliverytest.Run(t, func(t *testing.T) deliverytest.Place {
				dir := t.TempDir()
				return deliverytest.Place{Adapter: newAdapter(t, filepath.Join(dir, path)), Once: true, Arrived: func() ([]deliverytest.Copy, error) {
					return copiesIn(dir)
				}}
			})
		})
	}
}

// copiesIn is the messages in all Maildirs under dir, without the fields on top.
func copiesIn(dir string) (copies []deliverytest.Copy, err error) {
	var files []string
	for _, pattern := range []string{"mail/new/*", "mail/*/new/*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	for _, name := range files {
		c, err := copyIn(name)
		if err != nil {
			return nil, err
		}
		copies = append(copies, c)
	}
	return copies, nil
}

func copyIn(name string) (c deliverytest.Copy, err error) {
	f, err := os.Open(name)
	if err != nil {
		return c, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	if _, err := r.ReadString('\n'); err != nil { // Return-Path
		return c, err
	}
	var to []string
	for {
		if next, _ := r.Peek(14); !strings.HasPrefix(string(next), "Delivered-To: ") {
			break
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return c, err
		}
		to = append(to, strings.TrimSpace(strings.TrimPrefix(line, "Delivered-To: ")))
	}
	if to == nil {
		return c, errors.New(name + " has no Delivered-To")
	}
	return deliverytest.Read(to, r)
}
