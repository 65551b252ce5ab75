package transcript

import (
	"io"
	"net"
	"sync"
	"time"
)

// Conn is the server's end of a connection whose client sends pieces, one a
// Read, and then closes. It keeps what is written. Deadlines are ignored: its
// Read never waits.
type Conn struct {
	mu     sync.Mutex
	pieces [][]byte
	next   int   // the piece to be read from
	marks  []int // what was written before each piece was read
	out    []byte
	closed bool
	half   bool // CloseWrite was called
	late   bool // something was written after that
}

// NewConn returns a Conn of which the pieces are read. They are not changed.
func NewConn(pieces [][]byte) *Conn {
	return &Conn{pieces: append(make([][]byte, 0, len(pieces)), pieces...)}
}

func (c *Conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	for c.next < len(c.pieces) {
		if len(c.marks) == c.next {
			c.marks = append(c.marks, len(c.out))
		}
		n := copy(p, c.pieces[c.next])
		c.pieces[c.next] = c.pieces[c.next][n:]
		if len(c.pieces[c.next]) == 0 {
			c.next++
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, io.EOF
}

func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	c.late = c.late || c.half
	c.out = append(c.out, p...)
	return len(p), nil
}

// CloseWrite ends what the server says.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.half = true
	return nil
}

// Close ends the connection.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

// Said is what the server said, and whether all of it came before it closed.
func (c *Conn) Said() (said []byte, inOrder bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out, !c.late
}

// Closed reports whether the server has closed the connection.
func (c *Conn) Closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Turns is what the server said before the first piece was read, and after each.
func (c *Conn) Turns() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	turns := make([]string, len(c.pieces)+1)
	from := 0
	for i := range turns {
		to := len(c.out)
		if i < len(c.marks) {
			to = c.marks[i]
		}
		turns[i] = string(c.out[from:to])
		from = to
	}
	return turns
}

func (c *Conn) LocalAddr() net.Addr              { return addr("192.0.2.25:25") }
func (c *Conn) RemoteAddr() net.Addr             { return addr("198.51.100.7:40000") }
func (c *Conn) SetDeadline(time.Time) error      { return nil }
func (c *Conn) SetReadDeadline(time.Time) error  { return nil }
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }
