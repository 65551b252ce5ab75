package main

import (
	"fmt"
	"net"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
)

// inherited stands for a socket that systemd opens, where none is handed over:
// "incoming check" listens on nothing, and a reload keeps what there is.
type inherited struct{ net.Listener }

// adopt gives the listeners on systemd:NAME the sockets that were handed over to
// this process, of several of one name each the next. One that no listener takes
// is an error too: clients would connect to it and wait for ever.
func adopt(cfg *config.Config, ls []incoming.Listener) error {
	sockets, err := activation.ListenersWithNames()
	if err != nil {
		return fmt.Errorf("sockets of systemd: %w", err)
	}
	for i, l := range cfg.Listeners {
		name, is := strings.CutPrefix(l.Address.String(), "systemd:")
		if !is {
			continue
		}
		if len(sockets[name]) == 0 {
			return fmt.Errorf("listener %s: systemd has handed over no socket of that name; set FileDescriptorName=%s in the socket's unit and start that", l.Label(), name)
		}
		ls[i].Net, sockets[name] = sockets[name][0], sockets[name][1:]
	}
	for name, left := range sockets {
		if len(left) > 0 {
			return fmt.Errorf("systemd has handed over the socket %s (%s), and no listener takes it; add one with address = \"systemd:%s\"", name, left[0].Addr(), name)
		}
	}
	return nil
}
