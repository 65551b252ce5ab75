package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/incoming-mx/incoming/queue"
)

// payload is the body of a request, which can be read more than once and is
// never held: head, the message from the queue, tail.
type payload struct {
	msg         *queue.Message
	head, tail  string
	size        int64
	contentType string
	envelope    string // for the header field; "" when it is in head
	fingerprint string

	mu     sync.Mutex
	opened []*body
}

func (a *Adapter) payload(m *queue.Message) (*payload, error) {
	fingerprint, err := m.Fingerprint()
	if err != nil {
		return nil, err
	}
	env, err := newEnvelope(m, fingerprint).marshal()
	if err != nil {
		return nil, err
	}
	p := &payload{msg: m, fingerprint: fingerprint}
	if a.format == Raw {
		p.contentType = "message/rfc822"
		p.envelope = asciiJSON(env)
	} else {
		b := boundary(m.ID)
		p.contentType = "multipart/form-data; boundary=" + b
		// The file name makes receivers take the message for an upload, which
		// they put in a file, and not for a field, which they decode as text.
		p.head = "--" + b + "\r\n" +
			"Content-Disposition: form-data; name=\"envelope\"\r\n" +
			"Content-Type: application/json\r\n\r\n" + string(env) + "\r\n--" + b + "\r\n" +
			"Content-Disposition: form-data; name=\"message\"; filename=\"message.eml\"\r\n" +
			"Content-Type: message/rfc822\r\n\r\n"
		p.tail = "\r\n--" + b + "--\r\n"
	}
	p.size = int64(len(p.head)) + m.Size + int64(len(p.tail))
	return p, nil
}

// boundary is the same at each attempt, and cannot be in a message: it hangs on
// the ID, whose random part is made when the message has begun to come in.
func boundary(id queue.ID) string {
	sum := sha256.Sum256([]byte("incoming boundary\x00" + string(id)))
	return "incoming-" + hex.EncodeToString(sum[:20])
}

// open is a new reading of the whole. It fits http.Request.GetBody.
func (p *payload) open() (io.ReadCloser, error) {
	text, err := p.msg.Open()
	if err != nil {
		return nil, err
	}
	b := &body{
		r:     io.MultiReader(strings.NewReader(p.head), text, strings.NewReader(p.tail)),
		close: text.Close,
	}
	p.mu.Lock()
	p.opened = append(p.opened, b)
	p.mu.Unlock()
	return b, nil
}

// sign reads the whole once, to sign it.
func (p *payload) sign(keys [][]byte, id string, stamp int64) (string, error) {
	b, err := p.open()
	if err != nil {
		return "", err
	}
	s := newSigner(keys, id, stamp)
	n, err := io.CopyBuffer(struct{ io.Writer }{s}, b, make([]byte, 64<<10))
	if err == nil && n != p.size {
		err = fmt.Errorf("signed %d octets of %d", n, p.size)
	}
	if err := errors.Join(err, b.Close()); err != nil {
		return "", err
	}
	return s.signatures(), nil
}

// err is the first fault of the storage that any reading met.
func (p *payload) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.opened {
		if err := b.fault(); err != nil {
			return err
		}
	}
	return nil
}

// close closes what net/http may still have in hand.
func (p *payload) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.opened {
		_ = b.Close() // it was only read
	}
}

// body is one reading. Unlike a message's own reader it may be closed while
// another goroutine reads, as net/http does.
type body struct {
	mu     sync.Mutex
	r      io.Reader
	close  func() error
	closed bool
	err    error
}

var errBodyClosed = errors.New("the request is over")

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, errBodyClosed
	}
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	return b.close()
}

func (b *body) fault() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
