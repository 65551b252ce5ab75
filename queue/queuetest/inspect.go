package queuetest

import (
	"errors"
	"io"
	"slices"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

func isClosed(err error) bool { return errors.Is(err, queue.ErrClosed) }

// inspections is the contract of Inspector.
var inspections = []check{
	{"ListGoesByTimeOverAllStates", listOrder},
	{"ListFilters", listFilters},
	{"ListAllowsChangesInItsLoop", listAndChange},
	{"GetTellsAll", getTellsAll},
	{"InspectorOpenReadsInAnyState", openAnyState},
	{"InspectorRetryMakesDueNow", inspectorRetry},
	{"DeleteRemovesForGood", deleteRemoves},
	{"NoDraftIsSeen", noDraftIsSeen},
	{"PauseStopsLeaseAndNothingElse", pauseStops},
}

// oneOfEach puts a message in each state: ready, waiting, leased, dead, the
// oldest first.
func (s *suite) oneOfEach() (ready, waiting, leased, dead queue.ID) {
	s.Helper()
	t0 := now().Add(-time.Hour)
	dead = s.putAs(to("dead@y.example"), queue.Origin{ReceivedAt: t0.Add(3 * time.Minute)}, plain, queue.Final{})
	s.must("Bury", s.leaseOf(dead).Bury(s.ctx, &queue.Cause{Kind: queue.KindSpent, Err: errTest}))
	waiting = s.putAs(to("waiting@z.example"), queue.Origin{ReceivedAt: t0.Add(time.Minute)}, plain, queue.Final{})
	s.must("Retry", s.leaseOf(waiting).Retry(s.ctx, time.Now().Add(time.Hour), errTest))
	leased = s.putAt(t0.Add(2 * time.Minute))
	s.leaseOf(leased)
	ready = s.putAs(queue.Envelope{RcptTo: []queue.Recipient{{Address: "ready@y.example"}}}, queue.Origin{ReceivedAt: t0}, plain, queue.Final{})
	return ready, waiting, leased, dead
}

func listOrder(s *suite) {
	ready, waiting, leased, dead := s.oneOfEach()
	want := []queue.ID{ready, waiting, leased, dead}
	s.equal("List", s.list(queue.Filter{}), want)
	for range s.inspector().List(s.ctx, queue.Filter{}) {
		break // a loop may be left
	}
	var states []queue.State
	for e, err := range s.inspector().List(s.ctx, queue.Filter{}) {
		s.must("List", err)
		states = append(states, e.State)
		s.equal("an entry of List", e, s.get(e.ID))
	}
	s.equal("states", states, []queue.State{queue.StateReady, queue.StateWaiting, queue.StateLeased, queue.StateDead})

	at := now().Add(-2 * time.Hour)
	same := []queue.ID{s.putAt(at), s.putAt(at), s.putAt(at)}
	slices.Sort(same)
	s.equal("List of the same time goes by ID", s.list(queue.Filter{})[:3], same)
}

func listFilters(s *suite) {
	ready, waiting, leased, dead := s.oneOfEach()
	all := []queue.ID{ready, waiting, leased, dead}
	for _, c := range []struct {
		name string
		f    queue.Filter
		want []queue.ID
	}{
		{"IDs", queue.Filter{IDs: []queue.ID{dead, ready, "nothing"}}, []queue.ID{ready, dead}},
		{"an unknown ID", queue.Filter{IDs: []queue.ID{"nothing"}}, nil},
		{"States", queue.Filter{States: []queue.State{queue.StateDead, queue.StateWaiting}}, []queue.ID{waiting, dead}},
		{"From", queue.Filter{From: "from@x.example"}, []queue.ID{waiting, leased, dead}},
		{"From nobody", queue.Filter{From: "<>"}, []queue.ID{ready}},
		{"Rcpt", queue.Filter{Rcpt: "@Z.example"}, []queue.ID{waiting}},
		{"Before", queue.Filter{Before: s.get(leased).ReceivedAt}, []queue.ID{ready, waiting}},
		{"Before, of the dead", queue.Filter{Before: time.Now().Add(time.Minute)}, all},
		{"Reason", queue.Filter{Reason: "AS THE TEST"}, []queue.ID{waiting, dead}},
		{"Reason is a kind", queue.Filter{Reason: "spent"}, []queue.ID{dead}},
		{"all of it", queue.Filter{States: []queue.State{queue.StateDead}, Rcpt: "dead@y.example", Reason: "test"}, []queue.ID{dead}},
	} {
		s.equal("List by "+c.name, s.list(c.f), c.want)
	}
}

func listAndChange(s *suite) {
	in := s.inspector()
	for range 10 {
		s.put(plain)
	}
	deleted := 0
	for e, err := range in.List(s.ctx, queue.Filter{}) {
		s.must("List", err)
		s.must("Delete in a List loop", in.Delete(s.ctx, e.ID))
		_, err := in.Get(s.ctx, e.ID)
		s.mustBe("Get of what was deleted", err, queue.ErrNotFound)
		deleted++
	}
	if deleted != 10 {
		s.Errorf("List gave %d of 10", deleted)
	}
	s.depth("all deleted", queue.Depth{})
}

func getTellsAll(s *suite) {
	env, o, f := full()
	f.Prepend = []byte("R: 0\r\n")
	f.Skip = []queue.Range{{Start: 0, End: 12}}
	id := s.putAs(env, o, plain, f)
	e := s.get(id)
	s.equal("Facts", compact(e.Facts), compact(f.Facts))
	e.Facts = nil
	if len(e.Settled) == 0 {
		e.Settled = nil
	}
	s.equal("Get", e, queue.Entry{
		ID: id, State: queue.StateReady, Envelope: env, Origin: o, Size: int64(len(plain)),
		Quarantine: f.Quarantine, Prepend: f.Prepend, Skip: f.Skip,
	})
	l := s.leaseOf(id)
	if e := s.get(id); e.State != queue.StateLeased || e.Attempts != 0 {
		s.Errorf("leased: %s, Attempts %d", e.State, e.Attempts)
	}
	s.must("Release", l.Release(s.ctx))
	if e := s.get(id); e.State != queue.StateReady || e.Attempts != 0 {
		s.Errorf("released: %s, Attempts %d", e.State, e.Attempts)
	}
	_, err := s.inspector().Get(s.ctx, "nothing")
	s.mustBe("Get of nothing", err, queue.ErrNotFound)
}

func openAnyState(s *suite) {
	in := s.inspector()
	ready, waiting, leased, dead := s.oneOfEach()
	for _, id := range []queue.ID{ready, waiting, leased, dead} {
		s.sameText("Inspector.Open", s.read(func() (io.ReadCloser, error) { return in.Open(s.ctx, id) }), plain)
	}
	_, err := in.Open(s.ctx, "nothing")
	s.mustBe("Open of nothing", err, queue.ErrNotFound)
}

func inspectorRetry(s *suite) {
	in := s.inspector()
	ready, waiting, leased, dead := s.oneOfEach()
	s.must("Retry of a ready message", in.Retry(s.ctx, ready))
	s.mustBe("Retry of a leased message", in.Retry(s.ctx, leased), queue.ErrLeased)
	s.mustBe("Retry of a dead letter", in.Retry(s.ctx, dead), queue.ErrNotFound)
	s.mustBe("Retry of nothing", in.Retry(s.ctx, "nothing"), queue.ErrNotFound)
	s.must("Ack", s.leaseOf(ready).Ack(s.ctx))
	got := s.leaseLater()
	s.must("Retry of a waiting message", in.Retry(s.ctx, waiting))
	if l := s.wokenFor(waiting, got); l.Message().Attempt != 2 {
		s.Errorf("Attempt %d, want 2", l.Message().Attempt)
	}
}

func deleteRemoves(s *suite) {
	in := s.inspector()
	ready, waiting, leased, dead := s.oneOfEach()
	s.mustBe("Delete of a leased message", in.Delete(s.ctx, leased), queue.ErrLeased)
	s.mustBe("Delete of nothing", in.Delete(s.ctx, "nothing"), queue.ErrNotFound)
	for _, id := range []queue.ID{ready, waiting, dead} {
		s.must("Delete", in.Delete(s.ctx, id))
		s.mustBe("a second Delete", in.Delete(s.ctx, id), queue.ErrNotFound)
		_, err := in.Get(s.ctx, id)
		s.mustBe("Get of what was deleted", err, queue.ErrNotFound)
		_, err = in.Open(s.ctx, id)
		s.mustBe("Open of what was deleted", err, queue.ErrNotFound)
		s.mustBe("Retry of what was deleted", in.Retry(s.ctx, id), queue.ErrNotFound)
		s.mustBe("Requeue of what was deleted", in.Requeue(s.ctx, id), queue.ErrNotFound)
	}
	s.depth("all but the leased one deleted", queue.Depth{Leased: 1})
	s.nothing("all but the leased one deleted")
}

func noDraftIsSeen(s *suite) {
	in := s.inspector()
	d := s.begin()
	s.write(d, plain)
	_, err := in.Get(s.ctx, d.ID())
	s.mustBe("Get of a draft", err, queue.ErrNotFound)
	_, err = in.Open(s.ctx, d.ID())
	s.mustBe("Open of a draft", err, queue.ErrNotFound)
	s.mustBe("Delete of a draft", in.Delete(s.ctx, d.ID()), queue.ErrNotFound)
	s.equal("List", s.list(queue.Filter{}), []queue.ID(nil))
	_, err = d.Commit(s.ctx, queue.Final{})
	s.must("Commit", err)
	s.leaseOf(d.ID())
}

func pauseStops(s *suite) {
	in := s.inspector()
	if in.Paused() {
		s.Fatal("a new queue is paused")
	}
	first := s.put(plain)
	held := s.leaseOf(first)
	got := s.leaseLater() // waits from before the pause
	s.must("Pause", in.Pause(s.ctx))
	s.must("a second Pause", in.Pause(s.ctx))
	if !in.Paused() {
		s.Error("Paused is false after Pause")
	}
	second := s.put(plain)
	s.nothing("paused")
	select {
	case <-got:
		s.Fatal("a message was offered while paused")
	default:
	}
	s.must("Check while paused", s.q.Check(0))
	d := s.begin()
	s.write(d, plain)
	l, err := d.CommitLeased(s.ctx, queue.Final{})
	s.must("CommitLeased while paused", err)
	s.must("Ack while paused", l.Ack(s.ctx))
	s.must("Retry while paused", held.Retry(s.ctx, time.Now().Add(time.Hour), errTest))
	s.must("Resume", in.Resume(s.ctx))
	s.must("a second Resume", in.Resume(s.ctx))
	if in.Paused() {
		s.Error("Paused is true after Resume")
	}
	s.wokenFor(second, got)
}
