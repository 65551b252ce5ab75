// Queue puts something of one's own around a queue: here it says what becomes of
// each message. Any queue.Queue will do; package queuetest holds one of your own
// against the contract.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/examples/internal/letter"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

// talkative is a queue that says what it does.
type talkative struct{ queue.Queue }

// Begin implements queue.Queue.
func (q talkative) Begin(ctx context.Context, env queue.Envelope, origin queue.Origin) (queue.Draft, error) {
	fmt.Printf("begin: from %s\n", env.MailFrom)
	d, err := q.Queue.Begin(ctx, env, origin)
	return draft{d}, err
}

// Lease implements queue.Queue.
func (q talkative) Lease(ctx context.Context) (queue.Lease, error) {
	l, err := q.Queue.Lease(ctx)
	if err != nil {
		return nil, err
	}
	fmt.Printf("lease: attempt %d\n", l.Message().Attempt)
	return lease{l}, nil
}

type draft struct{ queue.Draft }

// Commit implements queue.Draft. The client has no 250 before it returns.
func (d draft) Commit(ctx context.Context, f queue.Final) (*queue.Message, error) {
	fmt.Println("commit")
	return d.Draft.Commit(ctx, f)
}

type lease struct{ queue.Lease }

// Ack implements queue.Lease.
func (l lease) Ack(ctx context.Context) error {
	fmt.Println("ack")
	return l.Lease.Ack(ctx)
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	srv, err := incoming.New(incoming.Config{
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0"}},
		Queue:     talkative{memqueue.New(nil)},
		Adapter: incoming.AdapterFunc(func(ctx context.Context, m *incoming.Message) error {
			stop()
			return nil
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := letter.Send(srv, "alice@example.net", []string{"bob@example.org"}, "Hello"); err != nil {
			log.Fatal(err)
		}
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
