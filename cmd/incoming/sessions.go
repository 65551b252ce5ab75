package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/control"
	"github.com/spf13/cobra"
)

func (a *app) sessionsCommand() *cobra.Command {
	var f spoolFlags
	var busiest bool
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List the connections open on a running daemon",
		Long: `List the connections open on a running daemon, the oldest first. With --busiest, list the addresses they come
from (IPv6 by /64, as limits.connections_per_ip counts), the one with most connections first, with how many more
that limit has turned away.`,
		Example: `  incoming sessions
  incoming sessions --busiest | head`,
		Args: args(0, 0, ""),
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&busiest, "busiest", false, "list addresses, the busiest first")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := f.daemon(cmd.Context())
		if err != nil {
			return err
		}
		defer c.Close()
		if busiest {
			peers, err := c.Busiest(cmd.Context())
			if err != nil {
				return err
			}
			return printRows(a, f.json, peerFormat, peerHead, peers, peerRow)
		}
		sessions, err := c.Sessions(cmd.Context())
		if err != nil {
			return err
		}
		return printRows(a, f.json, sessionFormat, sessionHead, sessions, sessionRow)
	}
	return cmd
}

const (
	sessionFormat = "%-22s  %-24s  %-18s  %7s  %8s  %-10s  %s\n"
	peerFormat    = "%-40s  %8s  %8s  %8s  %10s  %7s\n"
)

var (
	sessionHead = []any{"SESSION", "PEER", "LISTENER", "FOR", "MESSAGES", "STATE", "HELO"}
	peerHead    = []any{"PEER", "SESSIONS", "REFUSED", "MESSAGES", "BYTES IN", "FOR"}
)

func sessionRow(s control.Session) []any {
	return []any{s.ID, s.Peer, clean(s.Listener), span(time.Since(s.Since)), fmt.Sprint(s.Messages), s.State, clean(s.Hello)}
}

func peerRow(p control.Peer) []any {
	return []any{p.Peer, fmt.Sprint(p.Sessions), fmt.Sprint(p.Refused), fmt.Sprint(p.Messages), fmt.Sprint(p.BytesIn), span(time.Since(p.Since))}
}

// printRows prints a table, with its head when there is any row, or one JSON
// object a row.
func printRows[E any](a *app, asJSON bool, format string, head []any, rows []E, row func(E) []any) error {
	for i, r := range rows {
		if asJSON {
			if err := json.NewEncoder(a.stdout).Encode(r); err != nil {
				return err
			}
			continue
		}
		if i == 0 {
			fmt.Fprintf(a.stdout, format, head...)
		}
		fmt.Fprintf(a.stdout, format, row(r)...)
	}
	return nil
}

func (a *app) reloadCommand() *cobra.Command {
	var f spoolFlags
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make a running daemon read its configuration, lists and certificates again",
		Long: `Make a running daemon read its configuration, lists and certificates again, as SIGHUP does: all or
nothing. Sessions go on. What changed, and what needs a restart to change, is printed.`,
		Args: args(0, 0, ""),
	}
	f.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := f.daemon(cmd.Context())
		if err != nil {
			return err
		}
		defer c.Close()
		r, err := c.Reload(cmd.Context())
		if err != nil {
			return fmt.Errorf("reload: nothing was changed: %w", err)
		}
		if f.json {
			return json.NewEncoder(a.stdout).Encode(r)
		}
		for _, line := range reportLines(r) {
			fmt.Fprintln(a.stdout, line)
		}
		return nil
	}
	return cmd
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
