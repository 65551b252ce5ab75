package route_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/delivery/deliverytest"
	"github.com/incoming-mx/incoming/delivery/route"
	"github.com/incoming-mx/incoming/queue"
)

// store keeps what it is given, by the ID and its own name.
type store struct {
	mu     sync.Mutex
	copies map[string]deliverytest.Copy
}

func (s *store) at(name string) delivery.Adapter {
	return delivery.AdapterFunc(func(ctx context.Context, m *queue.Message) error {
		text, err := m.Open()
		if err != nil {
			return err
		}
		defer text.Close()
		c, err := deliverytest.Read(m.Envelope.Addresses(), text)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.copies[string(m.ID)+" at "+name] = c
		return nil
	})
}

func (s *store) arrived() ([]deliverytest.Copy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.copies)), nil
}

// A table is an adapter like others. Not parallel: it measures memory.
func TestTheAdapterKeepsTheContract(t *testing.T) {
	deliverytest.Run(t, func(t *testing.T) deliverytest.Place {
		s := &store{copies: map[string]deliverytest.Copy{}}
		table := must(route.New([]route.Route{
			{Name: "b", When: []route.Condition{must(route.Address("b@y.example", "b@z.example"))}, To: to("b", s.at("b"))},
			{Name: "rest", To: to("rest", s.at("rest"))},
		}))
		return deliverytest.Place{Adapter: table, Arrived: s.arrived, Once: true}
	})
}
