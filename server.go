package incoming

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/telemetry"
)

var (
	// ErrClosed is what Run returns when it was called before, or after
	// StopAccepting, Drain, Shutdown or ForceClose.
	ErrClosed = errors.New("incoming: server was run or closed before")

	// ErrForced is wrapped by what Run and Shutdown return when the end came
	// by force: sessions were cut off whose message was not accepted yet,
	// deliveries were given back to the queue. Nothing accepted is lost by it.
	ErrForced = errors.New("incoming: closed by force before the drain was done")
)

// Server receives mail on its listeners, keeps it in Config.Queue and hands it
// to Config.Adapter. Make one with New, and call Run:
//
//	srv, err := incoming.New(cfg)
//	…
//	err = srv.Run(ctx) // until ctx ends
//
// All its methods may be called from any goroutine.
type Server struct {
	cfg       Config // as New was given it; what a Reload may change is in set
	hooks     telemetry.Hooks
	endpoints []*endpoint
	admission *admission
	sessions  registry
	reserve   reserve           // while it runs
	pool      *delivery.Pool    // nil without an Adapter
	accepts   delivery.Accepter // likewise

	ready chan struct{} // closed when every listener is bound
	gone  chan struct{} // closed when nothing that Run started is left
	broke chan error    // what ends Run by itself: room for one

	// Two ends that everything started by Run looks at: draining ends it as
	// soon as its work in hand is done, forced at once. They are contexts and
	// not channels because what looks at them wants contexts.
	draining, forced context.Context
	drain, force     context.CancelFunc

	acceptors, served, helpers sync.WaitGroup

	reload sync.Mutex // held by Reload

	mu      sync.Mutex
	set     *settings   // for new sessions
	old     []*settings // of before a Reload, while their sessions or policies live
	began   bool        // Run was called
	stopped bool        // no connection is accepted any more
	cut     bool        // something was ended by force
	started time.Time
}

// New checks cfg and reads its certificates. It binds no socket: Run does. The
// error tells all that is wrong with cfg.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("incoming: %w", err)
	}
	s := &Server{cfg: cfg, hooks: shield(cfg.Hooks), admission: newAdmission(cfg.Limits.withDefaults()),
		ready: make(chan struct{}), gone: make(chan struct{}), broke: make(chan error, 1)}
	s.draining, s.drain = context.WithCancel(context.Background())
	s.forced, s.force = context.WithCancel(context.Background())
	for _, l := range cfg.named() {
		ep, err := s.newEndpoint(l)
		if err != nil {
			return nil, fmt.Errorf("incoming: listener %q: %w", l.Name, err)
		}
		s.endpoints = append(s.endpoints, ep)
	}
	var err error
	if s.set, err = s.newSettings(cfg); err != nil {
		return nil, fmt.Errorf("incoming: %w", err)
	}
	if cfg.Adapter != nil {
		if s.pool, err = newPool(cfg, s.hooks); err != nil {
			return nil, fmt.Errorf("incoming: %w", err)
		}
		s.accepts = delivery.Accepting(cfg.Adapter, cfg.Delivery.Accept)
	}
	return s, nil
}

func newPool(cfg Config, hooks telemetry.Hooks) (*delivery.Pool, error) {
	d := cfg.Delivery
	return delivery.New(delivery.Config{
		Queue: cfg.Queue, Adapter: cfg.Adapter,
		Workers: d.Workers, Deadline: d.Deadline, Backoff: d.Backoff, BackoffCap: d.BackoffCap,
		GiveUp: d.GiveUp, MaxAttempts: d.MaxAttempts,
		Before: d.Before, After: d.After, OnDead: cfg.OnDead, Hooks: hooks,
	})
}

// Run binds the listeners, serves and delivers until ctx ends, then drains: it
// stops accepting, tells idle sessions to come again (421 4.3.2), lets messages
// that are coming in and deliveries in hand finish, and closes by force what is
// left after Timeouts.Drain. It returns when everything it started has ended:
// nil after a clean drain, an error that wraps ErrForced when force was needed,
// or what kept it from serving. The values of ctx reach policies, adapters and
// the other funcs that are given a ctx; its end reaches none of them. Run may be
// called once.
func (s *Server) Run(ctx context.Context) error {
	if err := s.begin(); err != nil {
		return err
	}
	if err := s.bind(ctx); err != nil {
		s.StopAccepting()
		close(s.gone)
		return err
	}
	s.start(context.WithoutCancel(ctx))
	var broke error
	select {
	case <-ctx.Done():
	case <-s.gone: // drained from elsewhere
	case broke = <-s.broke:
	}
	return errors.Join(broke, s.finish(context.WithoutCancel(ctx)))
}

func (s *Server) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began || s.stopped {
		return ErrClosed
	}
	s.began, s.started = true, time.Now()
	return nil
}

// start sets everything going; gone is closed when all of it has ended. ctx
// carries values only.
func (s *Server) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(s.draining, cancel)
	s.reserve.fill()
	for _, ep := range s.endpoints {
		s.acceptors.Go(func() { s.accept(ctx, ep) })
	}
	if s.pool != nil {
		s.helpers.Go(func() { s.deliver(ctx) })
	}
	s.helpers.Go(s.watch)
	s.helpers.Go(s.hurry)
	if s.hooks.QueueDepth != nil || s.hooks.SessionCrowd != nil || s.hooks.SpoolSpace != nil {
		s.helpers.Go(s.tellGauges)
	}
	go func() {
		// Sessions are only begun by acceptors, so the order matters.
		s.acceptors.Wait()
		s.reserve.empty()
		s.served.Wait()
		s.helpers.Wait()
		close(s.gone)
	}()
	close(s.ready)
}

// deliver runs the pool until ctx ends, by the drain.
func (s *Server) deliver(ctx context.Context) {
	if err := s.pool.Run(ctx); err != nil && s.draining.Err() == nil {
		s.breakOff(fmt.Errorf("incoming: delivery: %w", err))
	}
}

// breakOff ends Run with err.
func (s *Server) breakOff(err error) {
	select {
	case s.broke <- err:
	default: // another error ends it already
	}
}

// finish is the end of Run.
func (s *Server) finish(ctx context.Context) error {
	ctx, cancel := withTimeout(ctx, s.settings().timeouts.Drain)
	defer cancel()
	if s.Drain(ctx) != nil {
		s.ForceClose()
		<-s.gone
	}
	if err := s.policiesDone(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return ErrForced
	}
	return nil
}

// afterForce is how long policies that ignore the end of their ctx are waited
// for after all else has ended.
const afterForce = time.Second

// policiesDone waits for policies that were given up and are still at work.
func (s *Server) policiesDone(ctx context.Context) error {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), afterForce)
		defer cancel()
	}
	s.mu.Lock()
	all := append([]*settings{s.set}, s.old...)
	s.mu.Unlock()
	for _, set := range all {
		if err := set.chain.Wait(ctx); err != nil {
			return fmt.Errorf("incoming: a policy is still at work after its session has ended: %w", ErrForced)
		}
	}
	return nil
}

// withTimeout is a ctx with a timeout; a negative one is none.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// Shutdown drains like the end of Run's ctx does, from elsewhere: it stops
// accepting, drains, and when ctx ends first closes by force. It returns when
// everything Run started has ended; nil when the drain was clean. Before Run it
// makes Run impossible and returns nil.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.Drain(ctx); err == nil {
		return nil
	}
	s.ForceClose()
	<-s.gone
	return fmt.Errorf("%w: %w", ErrForced, context.Cause(ctx))
}

// StopAccepting closes the listeners. Sessions and deliveries go on, and Run
// does not return.
func (s *Server) StopAccepting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.stopped = true
	for _, ep := range s.endpoints {
		if ep.net == nil {
			ep.net = ep.conf.Net
		}
		if ep.net != nil {
			ep.net.Close() // nobody can use it any more: an error changes nothing
		}
	}
}

// Drain stops accepting and delivering, and waits until the sessions have
// ended and deliveries in hand are done, or until ctx ends, whose error it then
// returns; what is open then stays so, for another Drain or ForceClose. Idle
// sessions get 421 4.3.2 at once, messages that are coming in may finish, and
// what is accepted meanwhile stays in the queue. When all has ended Run
// returns.
func (s *Server) Drain(ctx context.Context) error {
	s.StopAccepting()
	s.drain()
	s.mu.Lock()
	began := s.began
	s.mu.Unlock()
	if !began {
		return nil
	}
	select {
	case <-s.gone:
		return nil
	default:
	}
	select {
	case <-s.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ForceClose closes every connection, ends what policies and adapters wait on,
// and does not wait. A commit that has begun is finished; a message whose
// delivery is cut off stays in the queue. Run returns when all has ended.
func (s *Server) ForceClose() {
	s.StopAccepting()
	s.drain()
	s.mu.Lock()
	began := s.began
	s.mu.Unlock()
	select {
	case <-s.gone:
	default:
		if began {
			s.mu.Lock()
			s.cut = true
			s.mu.Unlock()
		}
	}
	s.force()
	s.sessions.force()
	if s.pool != nil {
		s.pool.ForceClose()
	}
}

// Ready is closed when every listener is bound. A Run that fails never closes
// it: who waits for it waits for Run's return too.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is the address that the listener of that name is bound to, nil when it
// is not, or is unknown. "" is the first listener.
func (s *Server) Addr(listener string) net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ep := range s.endpoints {
		if (ep.name == listener || listener == "") && ep.net != nil {
			return ep.net.Addr()
		}
	}
	return nil
}

// settings is what a session that begins now goes by.
func (s *Server) settings() *settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set
}

// takeSettings is settings for a session, which gives them back.
func (s *Server) takeSettings() *settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set.users++
	return s.set
}

func (s *Server) giveBack(set *settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set.users--
}
