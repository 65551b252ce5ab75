package delivery

import (
	"context"
	"errors"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/telemetry"
)

// work is a worker: it leases and delivers until ctx ends. Its place goes to
// another goroutine when its adapter is abandoned, or ends the goroutine.
func (p *Pool) work(ctx context.Context, number int) {
	again := func() { go p.work(ctx, number) }
	var last *attempt
	over := false
	defer func() {
		switch {
		case over:
			p.gate.left(number)
			p.workers.Done()
		case last.wasAbandoned(): // again was called
		default:
			again()
		}
	}()
	values := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		// The gate ends leasing when it closes, so that the worker comes
		// back and waits at the gate.
		leasing, cancel := context.WithCancel(ctx)
		p.gate.leased(number, cancel)
		for leasing.Err() == nil {
			l, probe := p.take(ctx, leasing)
			if l == nil {
				continue
			}
			last = &attempt{pool: p, lease: l, probe: probe, handOn: again}
			last.run(values)
			if last.wasAbandoned() {
				cancel()
				return
			}
		}
		cancel()
	}
	over = true
}

// take leases a message when the gate lets it, and takes a place for its
// attempt; nil when that was not to be.
func (p *Pool) take(ctx, leasing context.Context) (l queue.Lease, probe bool) {
	probe, err := p.gate.pass(ctx)
	if err != nil {
		return nil, false
	}
	l, err = p.cfg.Queue.Lease(leasing)
	if err != nil {
		p.gate.giveUp(probe)
		if leasing.Err() == nil {
			p.cannotLease(err)
		}
		return nil, false
	}
	if !p.gate.begin(ctx, probe) {
		p.release(l)
		return nil, false
	}
	return l, probe
}

// cannotLease is for an error that is the queue's own.
func (p *Pool) cannotLease(err error) {
	if errors.Is(err, queue.ErrClosed) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stop(err)
		return
	}
	telemetry.Emit(p.cfg.Hooks.SpoolError, telemetry.SpoolError{Op: "lease", Err: err})
	p.gate.storeFailed()
}

// release gives a message back that was not delivered.
func (p *Pool) release(l queue.Lease) error {
	return p.wrote("release", l, l.Release(context.Background()))
}

// wrote tells of what the queue could not write. The lease has ended all the
// same, and the message is offered again.
func (p *Pool) wrote(op string, l queue.Lease, err error) error {
	if err != nil {
		telemetry.Emit(p.cfg.Hooks.SpoolError, telemetry.SpoolError{Op: op, ID: string(l.Message().ID), Err: err})
	}
	return err
}
