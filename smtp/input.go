package smtp

import "sync"

const (
	smallBuffer = 144      // what an idle connection keeps: see Conn about its size
	bigBuffer   = 16 << 10 // what text, long lines and long batches are read into
)

type buffer = [bigBuffer]byte

// buffers are lent to connections that have something to do; none keeps one
// while it is idle.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

// input is a connection's read buffer. It starts small, is exchanged for a big
// one while much comes in, and grows further only for a command line that the
// limit allows.
type input struct {
	buf   []byte // small, *big, or grown
	r, w  int    // buf[r:w] is unread
	big   *buffer
	burst bool // the last read filled the buffer: more is on its way
	// skipped is how much was dropped of the overlong command line that is
	// coming in; 0 when there is none.
	skipped int
	small   [smallBuffer]byte
}

func (in *input) init()          { in.buf = in.small[:] }
func (in *input) unread() []byte { return in.buf[in.r:in.w] }
func (in *input) empty() bool    { return in.r == in.w }
func (in *input) skip(n int)     { in.r += n }

// room is where the next read goes; never empty.
func (in *input) room() []byte {
	if in.r > 0 {
		in.w = copy(in.buf, in.unread())
		in.r = 0
	}
	if in.w == len(in.buf) {
		in.grow()
	}
	return in.buf[in.w:]
}

// added says that n octets were read into room.
func (in *input) added(n int) {
	in.w += n
	in.burst = in.w == len(in.buf)
}

// grow takes the next bigger buffer.
func (in *input) grow() {
	if len(in.buf) < bigBuffer {
		in.enlarge()
		return
	}
	grown := make([]byte, 2*len(in.buf))
	in.move(grown)
}

// enlarge makes the buffer a big one, at least.
func (in *input) enlarge() {
	if len(in.buf) >= bigBuffer {
		return
	}
	big := buffers.Get().(*buffer)
	in.move(big[:])
	in.big = big
}

// shrink gives back a big buffer when what is unread fits into the small one.
func (in *input) shrink() {
	if len(in.buf) > smallBuffer && in.w-in.r <= smallBuffer {
		in.move(in.small[:])
	}
}

// release gives back a big buffer and what was unread in it.
func (in *input) release() {
	in.r, in.w, in.burst = 0, 0, false
	in.shrink()
}

func (in *input) move(to []byte) {
	in.w = copy(to, in.unread())
	in.r = 0
	in.buf = to
	if in.big != nil {
		buffers.Put(in.big)
		in.big = nil
	}
}
