package diskqueue

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// incomplete is the reason of a dead letter that was found in staging and is
// not whole: nobody was told 250 for it.
const incomplete = "incomplete"

// note is what dead.json says.
type note struct {
	queue.Dead
	detail string
}

func newNote(kind queue.Kind, reason, detail string) *note {
	return &note{
		Dead:   queue.Dead{RejectedAt: time.Now().UTC().Truncate(time.Millisecond), Reason: reason, Kind: kind},
		detail: detail,
	}
}

func (n *note) encode() ([]byte, error) {
	return marshal(deadJSON{timeText(n.RejectedAt), text(n.Reason), text(n.Kind), text(n.detail), keepText(n.Keep)}, nil)
}

// keepText is "" for the queue's own rules.
func keepText(keep time.Duration) text {
	if keep == 0 {
		return ""
	}
	return text(keep.String())
}

// decodeNote reads dead.json, whoever wrote it; at stands in for a time that is
// missing.
func decodeNote(b []byte, at time.Time) *note {
	var d deadJSON
	n := &note{Dead: queue.Dead{RejectedAt: at, Kind: queue.KindCorrupt, Reason: "dead.json is missing or not readable"}}
	if json.Unmarshal(b, &d) != nil {
		return n
	}
	if t, ok := d.RejectedAt.time(); ok {
		n.RejectedAt = t
	}
	n.Reason, n.Kind, n.detail = string(d.Reason), queue.Kind(d.Kind), string(d.Detail)
	if keep, err := time.ParseDuration(string(d.Keep)); err == nil {
		n.Keep = keep
	}
	if d.Kind == "" {
		n.Kind = elixirKind(n.Reason)
		if elixirIncomplete(n.Reason) {
			n.Reason, n.detail = incomplete, n.Reason
		}
	}
	return n
}

// neverAccepted: requeue refuses it.
func (n *note) neverAccepted() bool { return n.Kind == queue.KindCorrupt && n.Reason == incomplete }

// elixirKind finds the kind that the original did not write in its reasons,
// which are Elixir terms as inspect shows them. What is not one of its own is
// the application's.
func elixirKind(reason string) queue.Kind {
	if strings.HasPrefix(reason, "{:max_attempts,") {
		return queue.KindSpent
	}
	switch reason {
	case ":missing_meta", ":missing_raw", ":invalid_metadata", ":recover_conflict",
		":incomplete_committed_entry", ":invalid_committed_entry", ":invalid_processing_entry":
		return queue.KindCorrupt
	}
	if elixirIncomplete(reason) || strings.HasPrefix(reason, "{:rename_failed,") ||
		strings.HasPrefix(reason, "{:recover_error,") {
		return queue.KindCorrupt
	}
	return queue.KindRejected
}

func elixirIncomplete(reason string) bool {
	return reason == ":incomplete_write" || reason == ":invalid_incoming_entry"
}
