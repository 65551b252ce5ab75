package incoming

import (
	"time"

	"github.com/incoming-mx/incoming/delivery"
)

// Reject is an Adapter's verdict: no, for good. The message becomes a dead
// letter; its sender is not told, unless he waits. See delivery.Reject.
func Reject(err error) error { return delivery.Reject(err) }

// RetryAfter is an Adapter's verdict: again after d; 0 or less is by the
// back-off. See delivery.RetryAfter.
func RetryAfter(d time.Duration, err error) error { return delivery.RetryAfter(d, err) }

// PerRecipient is an Adapter's verdict for each recipient apart, by address as
// it stands in the Envelope; nil is delivered. See delivery.PerRecipient.
func PerRecipient(results map[string]error) error { return delivery.PerRecipient(results) }
