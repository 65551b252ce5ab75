package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/incoming-mx/incoming/internal/sign"
	"github.com/incoming-mx/incoming/mailparse"
	"github.com/incoming-mx/incoming/queue"
)

// job is a message and what is known of it, for all requests of one delivery.
type job struct {
	*queue.Message
	fingerprint string
	mail        *mailparse.Mail // nil in formats that send the message as it is
}

func (a *Adapter) job(m *queue.Message) (j job, err error) {
	j.Message = m
	if j.fingerprint, err = m.Fingerprint(); err != nil {
		return job{}, err
	}
	if a.format.parses() {
		j.mail, err = mailparse.Read(m)
	}
	return j, err
}

// payload is a request's body and what tells of it. It can be read more than once
// and is never held.
type payload struct {
	id          string // by which receivers know a request that comes again
	fingerprint string
	contentType string
	header      http.Header // further fields
	segments    []segment
	size        int64

	mu     sync.Mutex
	opened []*body
}

// payload is what is sent of j, in the format of a.
func (a *Adapter) payload(j job) (*payload, error) {
	p := &payload{id: headerID(j.ID), fingerprint: j.fingerprint, header: http.Header{}}
	var err error
	switch a.format {
	case Raw:
		err = p.raw(j)
	case Multipart:
		err = p.multipart(j)
	case Incoming:
		err = p.incoming(j)
	case SendGrid:
		err = p.sendGrid(j)
	case Mailgun:
		err = p.mailgun(j, a.keys[0], a.now(), a.token())
	case Postmark:
		err = p.postmark(j)
	case SES:
		err = p.ses(j, a.now())
	}
	for _, s := range p.segments {
		p.size += s.size
	}
	return p, err
}

func (p *payload) raw(j job) error {
	env, err := toJSONText(newEnvelope(j.Message, j.fingerprint))
	if err != nil {
		return err
	}
	p.contentType = "message/rfc822"
	p.header.Set(headerEnvelope, asciiJSON(env))
	p.segments = []segment{whole(j.Message)}
	return nil
}

func (p *payload) multipart(j job) error {
	env, err := toJSONText(newEnvelope(j.Message, j.fingerprint))
	if err != nil {
		return err
	}
	f := newForm(j.ID)
	f.part(`form-data; name="envelope"`, "application/json", literal(env))
	// The file name makes receivers take the message for an upload, which they put
	// in a file, and not for a field, which they decode as text.
	f.file("message", "message.eml", "message/rfc822", whole(j.Message))
	p.contentType, p.segments = f.end()
	return nil
}

// boundary is the same at each attempt, and cannot be in a message: it hangs on
// the ID, whose random part is made when the message has begun to come in.
func boundary(id queue.ID) string {
	sum := sha256.Sum256([]byte("incoming boundary\x00" + string(id)))
	return "incoming-" + hex.EncodeToString(sum[:20])
}

// open is a new reading of the whole. It fits http.Request.GetBody.
func (p *payload) open() (io.ReadCloser, error) {
	b := &body{run: run{left: p.segments}}
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
	s := sign.New(keys, id, stamp)
	n, err := io.CopyBuffer(struct{ io.Writer }{s}, b, make([]byte, 64<<10))
	if err == nil && n != p.size {
		err = fmt.Errorf("signed %d octets of %d", n, p.size)
	}
	if err := errors.Join(err, b.Close()); err != nil {
		return "", err
	}
	return s.Signatures(), nil
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
	run    run
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
	n, err := b.run.Read(p)
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
	return b.run.Close()
}

func (b *body) fault() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
