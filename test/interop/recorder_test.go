package interop

import (
	"bytes"
	"context"
	"io"
	"net"
	"regexp"
	"sync"
	"testing"
)

// recorder stands between a client and a server, and keeps what clients say.
type recorder struct {
	addr string

	mu   sync.Mutex
	said []*bytes.Buffer // a connection each
}

// record listens until the test ends.
func record(t *testing.T, server string) *recorder {
	t.Helper()
	var conf net.ListenConfig
	l, err := conf.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{addr: l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed
			}
			all.Go(func() {
				if err := r.between(ctx, client, server); err != nil {
					t.Errorf("recorder: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		cancel()
		all.Wait()
	})
	return r
}

func (r *recorder) between(ctx context.Context, client net.Conn, server string) error {
	defer client.Close()
	var d net.Dialer
	upstream, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return err
	}
	defer upstream.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = client.Close(), upstream.Close() })
	defer stop()
	var replies sync.WaitGroup
	replies.Go(func() {
		_, _ = io.Copy(client, upstream) // a client may leave before it has read all
		_ = client.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(upstream, io.TeeReader(client, r.keep())) // however it ends, the client says how it went
	_ = upstream.(*net.TCPConn).CloseWrite()
	replies.Wait()
	return nil
}

// keep is where one connection's octets go, before the server has them.
func (r *recorder) keep() io.Writer {
	r.mu.Lock()
	defer r.mu.Unlock()
	said := new(bytes.Buffer)
	r.said = append(r.said, said)
	return writer(func(p []byte) (int, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return said.Write(p)
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

var data = regexp.MustCompile(`(?i)\r\nDATA\r\n`)

// texts is the texts that clients sent by DATA, as RFC 5321 §4.5.2 reads them.
func (r *recorder) texts() (all [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, buffer := range r.said {
		for said := buffer.Bytes(); ; {
			at := data.FindIndex(said)
			if at == nil {
				break
			}
			rest := said[at[1]:]
			// What comes first is a line too: that of a lone dot has no CRLF before it.
			text, after, _ := bytes.Cut(append([]byte("\r\n"), rest...), []byte("\r\n.\r\n"))
			text = bytes.ReplaceAll(append(text, "\r\n"...), []byte("\r\n."), []byte("\r\n"))
			all, said = append(all, text[2:]), after
		}
	}
	return all
}
