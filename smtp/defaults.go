package smtp

import (
	"math"
	"time"
)

// mostCommandLine is the bound of a command line when there is no limit: memory
// never depends on the peer's wish alone.
const mostCommandLine = 1 << 20

func orDefault[T int | int64 | time.Duration](v, def, none T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return none
	}
	return v
}

// withDefaults replaces zero by the default and negative by a value that is
// never reached.
func (l Limits) withDefaults() Limits {
	return Limits{
		MessageSize:       orDefault(l.MessageSize, 50<<20, math.MaxInt64),
		Recipients:        orDefault(l.Recipients, 1000, math.MaxInt),
		Commands:          orDefault(l.Commands, 1000, math.MaxInt),
		Errors:            orDefault(l.Errors, 10, math.MaxInt),
		RefusedRecipients: orDefault(l.RefusedRecipients, 100, math.MaxInt),
		SessionSize:       orDefault(l.SessionSize, 4<<30, math.MaxInt64),
		CommandLine:       min(orDefault(l.CommandLine, 4096, mostCommandLine), mostCommandLine),
	}
}

// withDefaults replaces zero by the default and negative by 0, which is none.
func (t Timeouts) withDefaults() Timeouts {
	return Timeouts{
		Command:  orDefault(t.Command, 5*time.Minute, 0),
		TLS:      orDefault(t.TLS, 30*time.Second, 0),
		Data:     orDefault(t.Data, 3*time.Minute, 0),
		Write:    orDefault(t.Write, 5*time.Minute, 0),
		Session:  orDefault(t.Session, time.Hour, 0),
		DataRate: orDefault(t.DataRate, 500, 0),
	}
}
