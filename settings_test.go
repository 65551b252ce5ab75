package incoming

import (
	"runtime"
	"testing"

	"github.com/incoming-mx/incoming/queue/memqueue"
)

func TestHandshakesHaveAPlaceForEachProcessorUnlessTold(t *testing.T) {
	t.Parallel()
	q := memqueue.New(nil)
	defer q.Close()
	s, err := New(Config{Queue: q})
	if err != nil {
		t.Fatal(err)
	}
	places := func() chan struct{} { return s.settings().wire[defaultAddress].Handshakes }
	first := places()
	if cap(first) != runtime.GOMAXPROCS(0) {
		t.Errorf("%d places", cap(first))
	}
	reload := func(most int) {
		t.Helper()
		if err := s.Reload(Config{Limits: Limits{Handshakes: most}}); err != nil {
			t.Fatal(err)
		}
	}
	reload(0)
	if places() != first {
		t.Error("a reload that changes nothing gives other places: those of before are in use")
	}
	if reload(7); cap(places()) != 7 {
		t.Errorf("%d places", cap(places()))
	}
	if reload(-1); places() != nil {
		t.Error("there is a bound where none is wanted")
	}
	if reload(7); cap(places()) != 7 {
		t.Errorf("%d places", cap(places()))
	}
}
