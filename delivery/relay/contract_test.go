package relay

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"github.com/incoming-mx/incoming/delivery/deliverytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a mail server that takes everything, and keeps copies.
type store struct {
	mu     sync.Mutex
	copies []deliverytest.Copy
	tls    bool // a message in clear is refused
}

func (s *store) arrived() ([]deliverytest.Copy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.copies), nil
}

func (s *store) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{store: s, conn: c}, nil
}

type session struct {
	store *store
	conn  *smtp.Conn
	to    []string
}

func (s *session) Reset()      { s.to = nil }
func (*session) Logout() error { return nil }
func (s *session) Mail(string, *smtp.MailOptions) error {
	if _, is := s.conn.TLSConnectionState(); s.store.tls && !is {
		return errors.New("in clear")
	}
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	c, err := deliverytest.Read(s.to, r)
	if err != nil {
		return err
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.copies = append(s.store.copies, c)
	return nil
}

// serve runs a store's server on a listener until the test ends.
func serve(t *testing.T, s *store, l net.Listener, lmtp bool, starttls *tls.Config) {
	t.Helper()
	srv := smtp.NewServer(s)
	srv.LMTP, srv.Domain, srv.EnableSMTPUTF8 = lmtp, "mx.test", true
	srv.MaxLineLength, srv.ReadTimeout = 1<<20, time.Minute
	srv.TLSConfig = starttls
	srv.ErrorLog = nobody{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // it ends when it is closed
	}()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
}

type nobody struct{}

func (nobody) Printf(string, ...any) {}
func (nobody) Println(...any)        {}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Not parallel: it measures memory.
func TestTheAdapterKeepsTheContract(t *testing.T) {
	for name, lmtp := range map[string]bool{"SMTP": false, "LMTP": true} {
		t.Run(name, func(t *testing.T) {
			deliverytest.Run(t, func(t *testing.T) deliverytest.Place {
				s := &store{}
				address := filepath.Join(t.TempDir(), "s")
				l := listen(t, "unix", address)
				serve(t, s, l, lmtp, nil)
				return deliverytest.Place{Adapter: newAdapter(t, Config{Address: "unix:" + address, LMTP: lmtp}), Arrived: s.arrived}
			})
		})
	}
}

func newAdapter(t *testing.T, cfg Config) *Adapter {
	t.Helper()
	if cfg.Hello == "" {
		cfg.Hello = "client.test"
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}
