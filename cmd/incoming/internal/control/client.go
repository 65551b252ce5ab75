package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// Client talks to the daemon that owns a control socket.
type Client struct {
	http *http.Client
	path string
}

var _ queue.Inspector = (*Client)(nil)

// ErrSilent is the error of a daemon that takes connections and says nothing.
var ErrSilent = errors.New("the daemon holds its control socket and does not answer; it is stopped (SIGSTOP, a debugger) or stuck")

const (
	answerWithin = 5 * time.Second // the first answer, which is no work
	silentFor    = 2 * time.Minute // between two pieces of any other
)

// Dial connects to the control socket at path and waits until the daemon there
// shows that it is alive. Its error is ErrSilent when it does not, and the dial's
// when nobody listens.
func Dial(ctx context.Context, path string) (*Client, error) {
	return dial(ctx, path, answerWithin, silentFor)
}

func dial(ctx context.Context, path string, within, silent time.Duration) (*Client, error) {
	d := net.Dialer{Timeout: within}
	connect := func(ctx context.Context, _, _ string) (net.Conn, error) {
		nc, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		return &impatient{nc, silent}, nil
	}
	// A connection a request: one that idles would run into its own deadline.
	c := &Client{http: &http.Client{Transport: &http.Transport{DialContext: connect, DisableKeepAlives: true}}, path: path}
	soon, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := c.call(soon, "ping", struct{}{}, nil)
	var no *net.OpError
	switch {
	case err == nil:
		return c, nil
	case errors.As(err, &no) && no.Op == "dial":
		return nil, no
	case soon.Err() != nil && ctx.Err() == nil:
		return nil, fmt.Errorf("control socket %s: %w", path, ErrSilent)
	}
	return nil, err
}

// impatient is a connection to a daemon that must not be silent for too long.
type impatient struct {
	net.Conn
	silent time.Duration
}

func (c *impatient) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.silent)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *impatient) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.silent)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// silence is ErrSilent for an error that only says that time is over.
func silence(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrSilent
	}
	return err
}

// Close gives up the connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// post sends q and returns a success, whose body the caller closes.
func (c *Client) post(ctx context.Context, name string, q any) (*http.Response, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control/v1/"+name, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", c.path, silence(err))
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var f failure
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&f); err != nil {
		return nil, fmt.Errorf("control socket %s: %s, and no reason: is the daemon of another version?", c.path, resp.Status)
	}
	return nil, &remoteError{text: f.Error, kind: kinds()[f.Kind], place: f.Place}
}

// call sends q and reads the answer into answer; nil wants none.
func (c *Client) call(ctx context.Context, name string, q, answer any) error {
	resp, err := c.post(ctx, name, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("control socket %s: %s: %w", c.path, name, silence(err))
	}
	return nil
}

// List yields the daemon's entries that match.
func (c *Client) List(ctx context.Context, f queue.Filter) iter.Seq2[queue.Entry, error] {
	return func(yield func(queue.Entry, error) bool) {
		resp, err := c.post(ctx, "list", f)
		if err != nil {
			yield(queue.Entry{}, err)
			return
		}
		defer resp.Body.Close()
		for d := json.NewDecoder(resp.Body); ; {
			var l line
			if err := d.Decode(&l); err == io.EOF {
				return
			} else if err != nil {
				yield(queue.Entry{}, fmt.Errorf("control socket %s: list: %w", c.path, silence(err)))
				return
			}
			more := true
			if l.Entry != nil {
				more = yield(*l.Entry, nil)
			} else {
				more = yield(queue.Entry{}, &remoteError{text: l.Error})
			}
			if !more {
				return
			}
		}
	}
}

// Get returns one entry.
func (c *Client) Get(ctx context.Context, id queue.ID) (queue.Entry, error) {
	var e queue.Entry
	err := c.call(ctx, "get", id, &e)
	return e, err
}

// Open reads a message. One that the daemon cannot read to its end ends in the
// daemon's error.
func (c *Client) Open(ctx context.Context, id queue.ID) (io.ReadCloser, error) {
	resp, err := c.post(ctx, "open", id)
	if err != nil {
		return nil, err
	}
	return &text{resp}, nil
}

// text is a message as it comes.
type text struct{ resp *http.Response }

func (t *text) Read(p []byte) (int, error) {
	n, err := t.resp.Body.Read(p)
	if err == io.EOF {
		if why := t.resp.Trailer.Get(brokenOff); why != "" {
			err = &remoteError{text: why}
		}
		return n, err
	}
	return n, silence(err)
}

func (t *text) Close() error { return t.resp.Body.Close() }

// Retry makes a waiting message due.
func (c *Client) Retry(ctx context.Context, id queue.ID) error { return c.call(ctx, "retry", id, nil) }

// Requeue makes a dead letter live again.
func (c *Client) Requeue(ctx context.Context, id queue.ID) error {
	return c.call(ctx, "requeue", id, nil)
}

// Delete removes a message for good.
func (c *Client) Delete(ctx context.Context, id queue.ID) error {
	return c.call(ctx, "delete", id, nil)
}

// Pause stops deliveries.
func (c *Client) Pause(ctx context.Context) error { return c.call(ctx, "pause", struct{}{}, nil) }

// Resume lets them go on.
func (c *Client) Resume(ctx context.Context) error { return c.call(ctx, "resume", struct{}{}, nil) }

// Paused asks whether deliveries are paused; false when the daemon does not
// answer. Stats tells the error too.
func (c *Client) Paused() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := c.Stats(ctx)
	return err == nil && s.Paused
}

// Stats counts the queue.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	err := c.call(ctx, "stats", struct{}{}, &s)
	return s, err
}

// Sessions is the connections open.
func (c *Client) Sessions(ctx context.Context) ([]Session, error) {
	var s []Session
	err := c.call(ctx, "sessions", struct{}{}, &s)
	return s, err
}

// Busiest is who has connections open, the one with most first.
func (c *Client) Busiest(ctx context.Context) ([]Peer, error) {
	var p []Peer
	err := c.call(ctx, "busiest", struct{}{}, &p)
	return p, err
}

// Reload makes the daemon read its configuration, lists and certificates again.
func (c *Client) Reload(ctx context.Context) (*Report, error) {
	var r Report
	if err := c.call(ctx, "reload", struct{}{}, &r); err != nil {
		return nil, err
	}
	return &r, nil
}
