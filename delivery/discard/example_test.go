package discard_test

import (
	"context"
	"fmt"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/delivery/discard"
	"github.com/incoming-mx/incoming/queue"
)

func Example() {
	var adapter delivery.Adapter = discard.New()
	err := adapter.Deliver(context.Background(), queue.NewMessage(queue.Entry{ID: "01J"}, nil))
	fmt.Println(err)
	// Output: <nil>
}
