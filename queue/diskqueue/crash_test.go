package diskqueue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs/crashfs"
	"github.com/incoming-mx/incoming/internal/vfs/faultfs"
	"github.com/incoming-mx/incoming/queue"
)

// crashSpool is where the spool lies on the disks that lose power.
const crashSpool = "/spool"

// promised is what a message was promised before the power went.
type promised struct {
	text      string
	begun     bool     // its commit had begun: it may be there
	committed bool     // Commit returned: it must be there
	ending    bool     // its removal had begun: it may be gone
	dying     bool     // its burial had begun: it may be dead
	holed     bool     // the disk may not have given back all of it when it died
	settled   []string // recipients for which Settle returned
	attempts  int      // that were counted
	kept      bool     // in delivery to the end
}

// story is one life of a spool, step by step, until the power goes.
type story struct {
	q        *Queue
	ctx      context.Context
	messages map[queue.ID]*promised
	err      error // of the step that failed
	serial   int
	big      int // octets of what goes to a file
}

// plot is what a story is made of.
type plot struct {
	journal bool
	// segments is for how many the disk has room; 0: for any number.
	segments int
	// faults is how the disk fails; nil: not at all.
	faults *weather
	// did is what the journal does at least when nobody cuts the power.
	did   deeds
	steps func(*story) []func() error
}

// directories is a life with every message in a directory.
var directories = plot{steps: func(s *story) []func() error {
	return []func() error{
		s.commitSmall, s.commitBig, s.settleAndRetry, s.ack, s.buryAndRequeue, s.release, s.delete,
		s.commitLeased, s.commitSmall, s.bury, s.discard, s.commitTogether, s.sweep, s.commitBig,
	}
}}

// journalPlot is a life with small messages in a journal, in which segments
// are filled, sealed, emptied and used again, while one message stays for ever
// and another is tried again and again.
var journalPlot = plot{journal: true, did: deeds{emptied: 2, ended: 2}, steps: func(s *story) []func() error {
	steps := []func() error{
		s.commitSmall, s.commitSmall, s.settleAndRetry, s.commitBig, s.ack, s.commitSmall, s.buryAndRequeue, s.release, s.delete,
		s.commitLeased, s.commitSmall, s.bury, s.discard, s.commitSmall, s.keep, s.commitSmall, s.keepTrying,
	}
	for range 15 {
		steps = append(steps, s.commitSmall, s.commitSmall, s.ack, s.ack, s.keepTrying)
	}
	return append(steps, s.commitTogether, s.ack, s.commitTogether, s.sweep, s.commitBig)
}}

// owedPlot is a life in which a segment is emptied that says of messages in
// another, which stays, that they are no more.
var owedPlot = plot{journal: true, did: deeds{emptied: 1, ended: 1, owed: 1}, steps: func(s *story) []func() error {
	steps := slices.Repeat([]func() error{s.commitSmall}, 24) // one segment, and a few in the next
	steps = append(steps, s.ack, s.ack, s.ack)
	for range 20 {
		steps = append(steps, s.commitLeased)
	}
	return append(steps, s.settleAndRetry, s.ack, s.commitSmall)
}}

// fullPlot is a life on a disk that fills up, and on which room is made by
// putting together what little each segment holds.
var fullPlot = plot{journal: true, segments: 4, did: deeds{emptied: 1, ended: 1, relieved: 1}, steps: func(s *story) []func() error {
	var steps []func() error
	for range 60 {
		steps = append(steps, s.commitIfRoom)
	}
	for range 12 {
		steps = append(steps, s.keepTryingIfRoom, s.ack, s.ack)
	}
	for range 12 {
		steps = append(steps, s.commitIfRoom)
	}
	return append(steps, s.ack, s.commitIfRoom)
}}

// run lives through a story on fs, to its end or to the cut.
func (p plot) run(fs *crashfs.FS) *story {
	patience := 10 * time.Second
	if p.faults != nil {
		patience = 24 * time.Hour // of a fake clock, in which a sick spool is waited for
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() {
		select {
		case <-fs.Out():
			cancel()
		case <-ctx.Done():
		}
	}()
	s := &story{ctx: ctx, messages: map[queue.ID]*promised{}, big: 500}
	if p.journal {
		s.big = 2 * chunk
	}
	q, err := Open(crashSpool, p.options(fs))
	if s.err = err; err != nil {
		return s
	}
	defer q.Close()
	s.q = q
	for _, step := range p.steps(s) {
		if s.err = step(); s.err != nil {
			break
		}
	}
	return s
}

func (p plot) options(disk *crashfs.FS) *Options {
	fs := faultfs.New(disk)
	if p.segments > 0 {
		fs.Fail(faultfs.Rule{Op: faultfs.Preallocate, Err: syscall.ENOSPC, Match: func(faultfs.Call) bool {
			names, err := disk.ReadDir(crashSpool + "/" + journalDir)
			return err == nil && len(names) > p.segments // the one that is being made is among them
		}})
	}
	if p.faults != nil {
		for _, rule := range p.faults.rules() {
			fs.Fail(rule)
		}
	}
	o := &Options{NoJournal: !p.journal, Buffers: 200, MessageSize: -1, DeadSweep: -1, fs: fs, segment: 12 << 10, restless: -1}
	if p.journal {
		o.Buffers = chunk // what finds no room there goes to a file
	}
	return o
}

func (s *story) begin(size int) (queue.Draft, *promised, error) {
	s.serial++
	text := fmt.Sprintf("Subject: %d\r\n\r\n%s\r\n", s.serial, strings.Repeat("x", size))
	env := queue.Envelope{MailFrom: "a@x.example", RcptTo: []queue.Recipient{{Address: "b@y.example"}, {Address: "c@y.example"}}}
	origin := queue.Origin{ReceivedAt: time.Date(2026, 11, 24, 0, 0, s.serial, 0, time.UTC)}
	d, err := s.q.Begin(s.ctx, env, origin)
	if err != nil {
		return nil, nil, err
	}
	p := &promised{text: text}
	s.messages[d.ID()] = p
	for part := range slices.Chunk([]byte(text), 150) {
		if _, err := d.Write(part); err != nil {
			return nil, nil, errors.Join(err, d.Discard())
		}
	}
	return d, p, nil
}

func (s *story) commit(size int) error {
	d, p, err := s.begin(size)
	if err != nil {
		return err
	}
	return s.commitDraft(d, p)
}

func (s *story) commitDraft(d queue.Draft, p *promised) error {
	p.begun = true
	_, err := d.Commit(s.ctx, queue.Final{Prepend: []byte(receivedHere)})
	p.committed = err == nil
	return err
}

// receivedHere stands above every text.
const receivedHere = "Received: here\r\n"

// commitTogether has five sessions commit at once, which share a sync.
func (s *story) commitTogether() error {
	var commits []func() error
	for range 5 {
		d, p, err := s.begin(300)
		if err != nil {
			return err
		}
		commits = append(commits, func() error { return s.commitDraft(d, p) })
	}
	errs := make([]error, len(commits))
	var wg sync.WaitGroup
	for i, commit := range commits {
		wg.Go(func() { errs[i] = commit() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// sweep has a dead letter removed by its age.
func (s *story) sweep() error {
	_, p, err := s.buried(&queue.Cause{Kind: queue.KindRejected, Err: errors.New("no such user"), Keep: 1})
	if err != nil {
		return err
	}
	<-time.After(2 * time.Millisecond) // an age is in milliseconds
	p.ending = true
	s.q.sweep()
	return nil
}

func (s *story) commitSmall() error { return s.commit(20) }
func (s *story) commitBig() error   { return s.commit(s.big) }

func (s *story) commitIfRoom() error { return ifRoom(s.commitSmall()) }

// ifRoom lets a full disk refuse.
func ifRoom(err error) error {
	if errors.Is(err, queue.ErrNoSpace) {
		return nil
	}
	return err
}

// keep leases a message and never ends that.
func (s *story) keep() error {
	_, p, err := s.leased()
	if err == nil {
		p.kept = true
	}
	return err
}

// keepTrying retries a message, which then is the last to be leased.
func (s *story) keepTrying() error {
	l, p, err := s.leased()
	if err != nil {
		return err
	}
	return s.retry(l, p)
}

func (s *story) retry(l queue.Lease, p *promised) error {
	err := l.Retry(s.ctx, time.Time{}, errors.New("later"))
	if err == nil {
		p.attempts++
	}
	return err
}

func (s *story) keepTryingIfRoom() error { return ifRoom(s.keepTrying()) }

func (s *story) discard() error {
	d, _, err := s.begin(s.big)
	if err != nil {
		return err
	}
	return d.Discard()
}

func (s *story) commitLeased() error {
	d, p, err := s.begin(20)
	if err != nil {
		return err
	}
	p.begun = true
	l, err := d.CommitLeased(s.ctx, queue.Final{Prepend: []byte(receivedHere)})
	if err != nil {
		return err
	}
	p.committed, p.ending = true, true
	return l.Ack(s.ctx)
}

// leased leases the oldest message.
func (s *story) leased() (queue.Lease, *promised, error) {
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	l, err := s.q.Lease(ctx)
	if err != nil {
		return nil, nil, err
	}
	return l, s.messages[l.Message().ID], nil
}

func (s *story) settleAndRetry() error {
	l, p, err := s.leased()
	if err != nil {
		return err
	}
	if err := l.Settle(s.ctx, []queue.Outcome{{Recipient: "b@y.example"}}); err != nil {
		return err
	}
	p.settled = append(p.settled, "b@y.example")
	return s.retry(l, p)
}

func (s *story) ack() error {
	l, p, err := s.leased()
	if err != nil {
		return err
	}
	p.ending = true
	return l.Ack(s.ctx)
}

func (s *story) release() error {
	l, _, err := s.leased()
	if err != nil {
		return err
	}
	return l.Release(s.ctx)
}

// buried buries the oldest message.
func (s *story) buried(cause error) (queue.ID, *promised, error) {
	l, p, err := s.leased()
	if err != nil {
		return "", nil, err
	}
	p.dying = true
	return l.Message().ID, p, l.Bury(s.ctx, cause)
}

func (s *story) bury() error {
	_, _, err := s.buried(errors.New("no such user"))
	return err
}

func (s *story) buryAndRequeue() error {
	id, p, err := s.buried(errors.New("no such user"))
	if err != nil {
		return err
	}
	p.attempts = 0
	return s.q.Requeue(s.ctx, id)
}

func (s *story) delete() error {
	l, p, err := s.leased()
	if err != nil {
		return err
	}
	if err := l.Release(s.ctx); err != nil {
		return err
	}
	p.ending = true
	return s.q.Delete(s.ctx, l.Message().ID)
}

// check opens the spool that a cut has left and holds it against what was
// promised. It leaves the spool empty of all but dead letters.
func (p plot) check(fs *crashfs.FS, messages map[queue.ID]*promised) error {
	q, err := Open(crashSpool, p.options(fs))
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer q.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	found := map[queue.ID]bool{}
	for e, err := range q.List(ctx, queue.Filter{}) {
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		if found[e.ID] {
			return fmt.Errorf("%s is there twice", e.ID)
		}
		found[e.ID] = true
		// ID.2 and so on are the others where one ID lay in several states and differed.
		id, _, _ := strings.Cut(string(e.ID), ".")
		sent := messages[queue.ID(id)]
		if err := checkEntry(ctx, q, e, sent); err != nil {
			return fmt.Errorf("%s (%s): %w", e.ID, e.State, err)
		}
	}
	for id, p := range messages {
		if p.committed && !p.ending && !found[id] {
			return fmt.Errorf("%s is lost", id)
		}
	}
	if err := drainAll(ctx, q, messages); err != nil {
		return err
	}
	dead := q.Depth().Dead
	if err := q.Close(); err != nil {
		return err
	}
	if q, err = Open(crashSpool, p.options(fs)); err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	defer q.Close()
	if d := q.Depth(); d.Live() != 0 || d.Dead != dead {
		return fmt.Errorf("open again: %+v, %d were dead", d, dead)
	}
	return nil
}

func checkEntry(ctx context.Context, q *Queue, e queue.Entry, p *promised) error {
	if strings.HasPrefix(string(e.ID), "journal-") && isIncomplete(e) {
		return nil // torn, so that nobody can tell whose it was: nobody was promised it
	}
	if p == nil {
		return errors.New("nobody sent it")
	}
	if e.State == queue.StateDead && (!p.committed || p.ending) {
		if !p.committed && !isIncomplete(e) && !p.dying { // dying: its removal may have failed half way
			return fmt.Errorf("dead and never had a 250, but: %s", e.Dead.Reason)
		}
		return nil // it never had a 250, or was being removed
	}
	if strings.Contains(string(e.ID), ".") {
		if e.State == queue.StateDead {
			return nil // what was left of a copy half removed: no adapter sees it
		}
		return errors.New("it is there twice")
	}
	if e.State == queue.StateDead && !p.dying {
		return fmt.Errorf("dead: %s", e.Dead.Reason)
	}
	if e.State == queue.StateDead && p.holed {
		return nil
	}
	r, err := q.Open(ctx, e.ID)
	if err != nil {
		return err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if want := receivedHere + p.text; string(text) != want {
		return fmt.Errorf("text is %q, want %q", text, want)
	}
	return nil
}

// drainAll takes out all that is live: each whole, once, and for nobody who was
// settled. Then the index must agree that nothing is left.
func drainAll(ctx context.Context, q *Queue, messages map[queue.ID]*promised) error {
	seen := map[queue.ID]bool{}
	for q.Depth().Ready+q.Depth().Waiting > 0 {
		l, err := q.Lease(ctx)
		if err != nil {
			return fmt.Errorf("lease with %+v: %w", q.Depth(), err)
		}
		m := l.Message()
		p := messages[m.ID]
		if seen[m.ID] || p == nil || !p.begun {
			return fmt.Errorf("%s is handed out again, or was never committed", m.ID)
		}
		seen[m.ID] = true
		r, err := m.Open()
		if err != nil {
			return fmt.Errorf("%s: %w", m.ID, err)
		}
		text, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || string(text) != receivedHere+p.text {
			return fmt.Errorf("%s is handed out as %q (%v)", m.ID, text, err)
		}
		for _, rcpt := range p.settled {
			if slices.Contains(m.Envelope.Addresses(), rcpt) {
				return fmt.Errorf("%s is offered to %s again", m.ID, rcpt)
			}
		}
		if err := l.Ack(ctx); err != nil {
			return fmt.Errorf("%s: ack: %w", m.ID, err)
		}
	}
	if d := q.Depth(); d.Live() != 0 {
		return fmt.Errorf("left over: %+v", d)
	}
	return nil
}

// runTo lives through a story until the power goes after a change, and returns the
// disk and what was promised.
func (p plot) runTo(cut int) (*crashfs.FS, map[queue.ID]*promised) {
	fs := crashfs.New()
	fs.CutAt(cut)
	return fs, p.run(fs).messages
}

// fates is what may become of what is not certain.
func fates(random int) map[string]crashfs.Fate {
	all := map[string]crashfs.Fate{
		"lost": crashfs.Lost, "kept": crashfs.Kept, "names kept": crashfs.NamesKept, "text kept": crashfs.TextKept,
	}
	for seed := range random {
		all[fmt.Sprintf("random %d", seed)] = crashfs.Random(uint64(seed))
		all[fmt.Sprintf("sectors %d", seed)] = crashfs.Sectors(uint64(seed))
	}
	return all
}

// length is how many changes the story makes when nobody cuts the power.
func (p plot) length(t *testing.T) int {
	t.Helper()
	fs := crashfs.New()
	s := p.run(fs)
	if s.err != nil {
		t.Fatalf("the story ends early: %v", s.err)
	}
	if p.journal {
		did := s.q.journal.did
		t.Logf("%d messages, %d changes, %+v", len(s.messages), fs.Ops(), did)
		if least := p.did; did.emptied < least.emptied || did.ended < least.ended || did.relieved < least.relieved || did.owed < least.owed {
			t.Errorf("the journal did %+v, want at least %+v", did, least)
		}
	}
	if err := p.checkAttempts(fs.Crash(crashfs.Kept), s.messages); err != nil {
		t.Fatalf("at the end of the story: %v", err)
	}
	if err := p.check(fs.Crash(crashfs.Lost), s.messages); err != nil {
		t.Fatalf("at the end of the story: %v", err)
	}
	return fs.Ops()
}

// checkAttempts opens the spool that a close has left, twice, for the first time
// counts an attempt for what was in delivery. A full disk may have had no room for
// what ended one.
func (p plot) checkAttempts(fs *crashfs.FS, messages map[queue.ID]*promised) error {
	if p.segments > 0 {
		return nil
	}
	for range 2 {
		q, err := Open(crashSpool, p.options(fs))
		if err != nil {
			return err
		}
		for e, err := range q.List(context.Background(), queue.Filter{States: []queue.State{queue.StateReady, queue.StateWaiting}}) {
			sent := messages[e.ID]
			if err != nil {
				return errors.Join(err, q.Close())
			}
			if n := e.Attempts - sent.attempts; n != 0 && !(n == 1 && sent.kept) {
				return errors.Join(fmt.Errorf("%s has %d attempts in place of %d", e.ID, e.Attempts, sent.attempts), q.Close())
			}
		}
		if err := q.Close(); err != nil {
			return err
		}
	}
	return nil
}

// checkIndex opens the spool that a cut has left and holds what is in memory against
// what Inspect then reads from the disk. A full one may have no room for the word that
// a message is not in delivery any more.
func (p plot) checkIndex(fs *crashfs.FS) error {
	q, err := Open(crashSpool, p.options(fs))
	if err != nil {
		return err
	}
	known, err := listed(q.List(context.Background(), queue.Filter{}))
	if err = errors.Join(err, q.Close()); err != nil {
		return err
	}
	i, err := inspect(crashSpool, fs)
	if err != nil {
		return err
	}
	there, err := listed(i.List(context.Background(), queue.Filter{}))
	if err = errors.Join(err, i.Close()); err != nil {
		return err
	}
	if p.segments > 0 {
		for id, text := range there {
			if ready, was := strings.CutPrefix(text, string(queue.StateLeased)); was {
				there[id] = string(queue.StateReady) + ready
			}
		}
	}
	if !maps.Equal(known, there) {
		return fmt.Errorf("in memory is %v\non the disk %v", known, there)
	}
	return nil
}

// listed is what matters of each message. One that is dead may lack anything.
func listed(all iter.Seq2[queue.Entry, error]) (map[queue.ID]string, error) {
	of := make(map[queue.ID]string)
	for e, err := range all {
		if err != nil {
			return nil, err
		}
		of[e.ID] = fmt.Sprint(e.State, e.Attempts, e.ReceivedAt, e.NextAttempt, e.Envelope.Addresses(), e.Settled)
	}
	return of, nil
}

// Q01.
func TestNoPowerCutLosesWhatWasCommitted(t *testing.T) {
	t.Parallel()
	directories.cutEverywhere(t, directories, 1)
}

// Q01.
func TestNoPowerCutLosesWhatIsInTheJournal(t *testing.T) {
	t.Parallel()
	journalPlot.cutEverywhere(t, journalPlot, 7)
}

// TestNoPowerCutLosesWhatIsInTheJournalWhenItIsTurnedOff opens what was left
// with the journal off.
func TestNoPowerCutLosesWhatIsInTheJournalWhenItIsTurnedOff(t *testing.T) {
	t.Parallel()
	journalPlot.cutEverywhere(t, directories, 11)
}

// TestNoPowerCutLosesWhatIsSaidOfOtherSegments cuts while what a segment says of
// messages in another is written again elsewhere.
func TestNoPowerCutLosesWhatIsSaidOfOtherSegments(t *testing.T) {
	t.Parallel()
	owedPlot.cutEverywhere(t, owedPlot, 17)
}

// TestNoPowerCutLosesWhatIsOnAFullDisk, whose journal makes room by putting segments
// together.
func TestNoPowerCutLosesWhatIsOnAFullDisk(t *testing.T) {
	t.Parallel()
	fullPlot.cutEverywhere(t, fullPlot, 29)
}

// cutEverywhere cuts the power after each step-th change, and opens by the
// options of then what each fate leaves.
func (p plot) cutEverywhere(t *testing.T, then plot, step int) {
	p.cutEach(t, step, func(cut int) error {
		fs, messages := p.runTo(cut)
		for name, fate := range fates(6) {
			left := fs.Crash(fate)
			before := left.String()
			if err := errors.Join(then.checkIndex(fs.Crash(fate)), then.check(left, messages)); err != nil {
				return fmt.Errorf("%s: %w\nthe last changes:\n%s\nthe disk:\n%s",
					name, err, strings.Join(lastOf(fs.Calls(), 12), "\n"), before)
			}
		}
		return nil
	})
}

func TestNoSecondPowerCutDuringRecoveryLosesIt(t *testing.T) {
	t.Parallel()
	directories.cutTwice(t, directories, 23)
}

func TestNoSecondPowerCutDuringRecoveryLosesWhatIsInTheJournal(t *testing.T) {
	t.Parallel()
	journalPlot.cutTwice(t, journalPlot, 41)
}

func TestNoSecondPowerCutLosesWhatIsInTheJournalWhenItIsTurnedOff(t *testing.T) {
	t.Parallel()
	journalPlot.cutTwice(t, directories, 701)
}

func TestNoSecondPowerCutLosesWhatIsSaidOfOtherSegments(t *testing.T) {
	t.Parallel()
	owedPlot.cutTwice(t, owedPlot, 83)
}

func TestNoSecondPowerCutLosesWhatIsOnAFullDisk(t *testing.T) {
	t.Parallel()
	fullPlot.cutTwice(t, fullPlot, 127)
}

// cutTwice cuts the power after each step-th change, and again after each
// change of the recovery by the options of then.
func (p plot) cutTwice(t *testing.T, then plot, step int) {
	p.cutEach(t, step, func(cut int) error {
		fs, messages := p.runTo(cut)
		for name, fate := range fates(1) {
			whole := fs.Crash(fate)
			then.openAndClose(whole)
			for second := range whole.Ops() {
				left := fs.Crash(fate)
				left.CutAt(second)
				then.openAndClose(left)
				for name2, fate2 := range fates(1) {
					again := left.Crash(fate2)
					if err := then.check(again, messages); err != nil {
						return fmt.Errorf("%s, then after change %d of recovery, %s: %w\nrecovery:\n%s\nfirst:\n%s\nthen:\n%s",
							name, second, name2, err, strings.Join(left.Calls(), "\n"), dumpJournal(fs.Crash(fate), crashSpool), dumpJournal(left.Crash(fate2), crashSpool))
					}
				}
			}
		}
		return nil
	})
}

// cutEach has f cut the power after each step-th change, some at a time, until it fails.
func (p plot) cutEach(t *testing.T, step int, f func(cut int) error) {
	n := p.length(t)
	each := make(chan int)
	var working sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		working.Go(func() {
			for cut := range each {
				if t.Failed() {
					continue
				}
				if err := f(cut); err != nil {
					t.Errorf("cut after change %d, %v", cut, err)
				}
			}
		})
	}
	for cut := range cuts(n, step) {
		each <- cut
	}
	close(each)
	working.Wait()
}

// cuts yields each step-th of n changes, from one that is drawn anew each time;
// all of them, which takes some minutes, when INCOMING_CRASH is set.
func cuts(n, step int) iter.Seq[int] {
	first := rand.IntN(step)
	if os.Getenv("INCOMING_CRASH") != "" {
		first, step = 0, 1
	}
	return func(yield func(int) bool) {
		for cut := first; cut < n && yield(cut); cut += step {
		}
	}
}

func (p plot) openAndClose(fs *crashfs.FS) {
	if q, err := Open(crashSpool, p.options(fs)); err == nil {
		q.Close()
	}
}

func lastOf(all []string, n int) []string { return all[max(0, len(all)-n):] }
