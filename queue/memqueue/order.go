package memqueue

import (
	"container/heap"
	"strings"
)

// order is a heap of entries that knows where each of them is.
type order struct {
	kind int // the entry's slot for this order
	less func(a, b *entry) bool
	es   []*entry
}

func byAge(a, b *entry) bool {
	if c := a.ReceivedAt.Compare(b.ReceivedAt); c != 0 {
		return c < 0
	}
	return strings.Compare(string(a.ID), string(b.ID)) < 0
}

func byTime(a, b *entry) bool { return a.NextAttempt.Before(b.NextAttempt) }

func (o *order) push(e *entry)   { heap.Push((*byHeap)(o), e) }
func (o *order) pop() *entry     { return heap.Pop((*byHeap)(o)).(*entry) }
func (o *order) remove(e *entry) { heap.Remove((*byHeap)(o), e.slot[o.kind]) }

// byHeap keeps heap.Interface out of order's own methods.
type byHeap order

func (h *byHeap) Len() int           { return len(h.es) }
func (h *byHeap) Less(i, j int) bool { return h.less(h.es[i], h.es[j]) }

func (h *byHeap) Swap(i, j int) {
	h.es[i], h.es[j] = h.es[j], h.es[i]
	h.es[i].slot[h.kind], h.es[j].slot[h.kind] = i, j
}

func (h *byHeap) Push(x any) {
	e := x.(*entry)
	e.slot[h.kind] = len(h.es)
	h.es = append(h.es, e)
}

func (h *byHeap) Pop() any {
	last := len(h.es) - 1
	e := h.es[last]
	h.es[last] = nil
	h.es = h.es[:last]
	return e
}
