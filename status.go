package incoming

import (
	"net"
	"net/netip"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// Status is how a Server stands, for readiness probes and operators.
type Status struct {
	// NotReady is why no mail should be sent here now, a reason each; empty
	// when the server is ready.
	NotReady []string
	Draining bool      // the end has begun
	Started  time.Time // when Run was called; zero before
	Hostname string    // that new sessions are greeted with

	Listeners []ListenerStatus // in the order of Config.Listeners
	Sessions  int              // open now
	// States is how many sessions stand where; a state with none is left out.
	States map[SessionState]int

	Queue queue.Depth // how much is in Config.Queue
	// Delivery is nil without an Adapter.
	Delivery *delivery.Status

	// HiddenBy is the private address that nearly all sessions come from: a
	// proxy that hides the peers. Invalid when there seems to be none.
	HiddenBy netip.Addr
}

// ListenerStatus is how one listener stands.
type ListenerStatus struct {
	Name string
	Addr net.Addr // nil when it is not bound
	TLS  TLSMode
	// Certificates is those from files, the default first.
	Certificates []CertificateStatus
}

// Ready reports whether mail should be sent here.
func (s Status) Ready() bool { return len(s.NotReady) == 0 }

// Status tells how the server stands now. It is cheap.
func (s *Server) Status() Status {
	st := Status{Queue: s.cfg.Queue.Depth(), HiddenBy: s.admission.hiddenBy(), States: make(map[SessionState]int)}
	for _, l := range s.sessions.list() {
		st.States[l.info().State]++
		st.Sessions++
	}
	var certs []*certificates
	s.mu.Lock()
	st.Draining, st.Started, st.Hostname = s.stopped, s.started, s.set.hostname
	for _, ep := range s.endpoints {
		l := ListenerStatus{Name: ep.name, TLS: ep.conf.TLS}
		if ep.net != nil {
			l.Addr = ep.net.Addr()
		}
		st.Listeners = append(st.Listeners, l)
		certs = append(certs, ep.certs)
	}
	s.mu.Unlock()
	for i, c := range certs {
		if c != nil {
			st.Listeners[i].Certificates = c.status()
		}
	}
	if s.pool != nil {
		d := s.pool.Status()
		st.Delivery = &d
	}
	st.NotReady = s.notReady(st)
	return st
}

func (s *Server) notReady(st Status) (why []string) {
	select {
	case <-s.ready:
	default:
		why = append(why, "not listening yet")
	}
	if st.Draining {
		why = append(why, "shutting down")
	}
	if err := s.cfg.Queue.Check(0); err != nil {
		why = append(why, err.Error())
	}
	if s.pool != nil {
		if err := s.pool.Ready(); err != nil {
			why = append(why, err.Error())
		}
	}
	return why
}
