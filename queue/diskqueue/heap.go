package diskqueue

// heap is a binary heap of entries in which each knows its position, so that
// one can be taken out of the middle.
type heap struct {
	items []*entry
	less  func(a, b *entry) bool
	pos   func(*entry) *int32
}

func byAge(a, b *entry) bool {
	if a.received != b.received {
		return a.received < b.received
	}
	return a.id < b.id
}

func byTime(a, b *entry) bool {
	if a.at != b.at {
		return a.at < b.at
	}
	return byAge(a, b)
}

func posOf(e *entry) *int32   { return &e.pos }
func asideOf(e *entry) *int32 { return &e.aside }

func (h *heap) top() *entry {
	if len(h.items) == 0 {
		return nil
	}
	return h.items[0]
}

func (h *heap) push(e *entry) {
	h.items = append(h.items, e)
	h.set(len(h.items)-1, e)
	h.up(len(h.items) - 1)
}

// remove takes e out; an entry that is not in is left alone.
func (h *heap) remove(e *entry) {
	i := int(*h.pos(e))
	if i < 0 {
		return
	}
	last := len(h.items) - 1
	moved := h.items[last]
	h.items[last] = nil
	h.items = h.items[:last]
	*h.pos(e) = -1
	if i == last {
		return
	}
	h.set(i, moved)
	h.up(i)
	h.down(int(*h.pos(moved)))
}

func (h *heap) set(i int, e *entry) {
	h.items[i] = e
	*h.pos(e) = int32(i)
}

func (h *heap) up(i int) {
	e := h.items[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(e, h.items[parent]) {
			break
		}
		h.set(i, h.items[parent])
		i = parent
	}
	h.set(i, e)
}

func (h *heap) down(i int) {
	e := h.items[i]
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			break
		}
		if r := child + 1; r < len(h.items) && h.less(h.items[r], h.items[child]) {
			child = r
		}
		if !h.less(h.items[child], e) {
			break
		}
		h.set(i, h.items[child])
		i = child
	}
	h.set(i, e)
}
