package soak

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// vitals is what the daemon says of itself at /metrics: each metric, summed up
// over its labels.
type vitals map[string]float64

// measure asks for them. It keeps its connection, so that each answer counts the
// same one.
func measure(t *testing.T, addr string) vitals {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	v := make(vitals)
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		n, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		name, _, _ := strings.Cut(line[:at], "{")
		v[name] += n
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return v
}

// What must end where it began.
func (v vitals) goroutines() int  { return int(v["go_goroutines"]) }
func (v vitals) descriptors() int { return int(v["process_open_fds"]) }
func (v vitals) resident() int    { return int(v["process_resident_memory_bytes"]) }

// heap is when the next collection is due: twice what the last one found alive.
func (v vitals) heap() int { return int(v["go_memstats_next_gc_bytes"]) }

// What the runtime and the allocator may keep of what was in use: it does not grow
// with how much there was. A heap of 2 MB more is 1 MB more alive.
const (
	moreHeap     = 2 << 20
	moreResident = 16 << 20
)

// beyond says what there is more of than before.
func (v vitals) beyond(before vitals) error {
	switch {
	case v.goroutines() > before.goroutines():
		return fmt.Errorf("%d goroutines, and there were %d", v.goroutines(), before.goroutines())
	case v.descriptors() > before.descriptors():
		return fmt.Errorf("%d descriptors, and there were %d", v.descriptors(), before.descriptors())
	case v.heap() > before.heap()+moreHeap:
		return fmt.Errorf("the heap goes up to %d octets, and it was %d", v.heap(), before.heap())
	case v.resident() > before.resident()+moreResident:
		return fmt.Errorf("%d octets are resident, and there were %d", v.resident(), before.resident())
	}
	return nil
}

func (v vitals) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %.1f MB resident, heap up to %.1f MB",
		v.goroutines(), v.descriptors(), float64(v.resident())/1e6, float64(v.heap())/1e6)
}
