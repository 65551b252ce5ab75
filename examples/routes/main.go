// Routes leads each recipient of a message to the adapter that it is for: support
// mail to the desk, invoices to the books and the archive, the rest to the archive
// alone.
package main

import (
	"context"
	"fmt"
	"log"
	"regexp"
	"strings"
	"sync"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/delivery/route"
	"github.com/incoming-mx/incoming/examples/internal/letter"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

// table says who goes where.
func table(desk, books, archive incoming.Adapter) (*route.Table, error) {
	support, err := route.Address("support@example.org")
	if err != nil {
		return nil, err
	}
	return route.New([]route.Route{
		{Name: "support", When: []route.Condition{support},
			To: []route.Destination{{Name: "desk", Adapter: desk, AtOnce: 4}}, MaxAttempts: 20},
		{Name: "invoices", When: []route.Condition{route.Header("Subject", regexp.MustCompile(`(?i)invoice`))},
			To: []route.Destination{{Name: "books", Adapter: books}, {Name: "archive", Adapter: archive}}},
		{Name: "rest", To: []route.Destination{{Name: "archive", Adapter: archive}}},
	})
}

func main() {
	var deliveries sync.WaitGroup
	deliveries.Add(4)
	var mu sync.Mutex
	got := map[string]string{}
	keep := func(name string) incoming.Adapter {
		return incoming.AdapterFunc(func(ctx context.Context, m *incoming.Message) error {
			mu.Lock()
			defer mu.Unlock()
			got[name] += " " + strings.Join(m.Envelope.Addresses(), ",")
			deliveries.Done()
			return nil
		})
	}
	routes, err := table(keep("desk"), keep("books"), keep("archive"))
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	srv, err := incoming.New(incoming.Config{
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0"}}, Queue: memqueue.New(nil), Adapter: routes,
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		defer stop()
		err := letter.Send(srv, "alice@example.net", []string{"support+7@example.org", "bob@example.org"}, "Your invoice")
		if err == nil {
			err = letter.Send(srv, "alice@example.net", []string{"bob@example.org"}, "Hello")
		}
		if err != nil {
			log.Fatal(err)
		}
		deliveries.Wait()
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"desk", "books", "archive"} {
		fmt.Printf("%s:%s\n", name, got[name])
	}
}
