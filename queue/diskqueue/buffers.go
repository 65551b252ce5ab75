package diskqueue

import (
	"sync"
	"sync/atomic"
)

const (
	// chunk is the unit that drafts hold memory in: most mail fits in one.
	chunk = 16 << 10
	// mostBuffered is the largest text that is kept in memory.
	mostBuffered = 128 << 10
)

// buffers lends chunks to drafts, within a budget over all of them.
type buffers struct {
	most int64
	lent atomic.Int64
	pool sync.Pool // of *[chunk]byte
}

// get is an empty chunk; nil when the budget is used up.
func (b *buffers) get() *[chunk]byte {
	if b.lent.Add(chunk) > b.most {
		b.lent.Add(-chunk)
		return nil
	}
	if c, ok := b.pool.Get().(*[chunk]byte); ok {
		return c
	}
	return new([chunk]byte)
}

func (b *buffers) put(c *[chunk]byte) {
	b.pool.Put(c)
	b.lent.Add(-chunk)
}
