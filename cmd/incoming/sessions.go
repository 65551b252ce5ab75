package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) sessionsCommand() *cobra.Command {
	var f spoolFlags
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List the connections open on a running daemon",
		Args:  args(0, 0, ""),
	}
	f.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := f.daemon(cmd.Context())
		if err != nil {
			return err
		}
		defer c.Close()
		sessions, err := c.Sessions(cmd.Context())
		if err != nil {
			return err
		}
		now := time.Now()
		const format = "%-22s  %-24s  %-18s  %7s  %8s  %-10s  %s\n"
		for i, s := range sessions {
			if f.json {
				if err := json.NewEncoder(a.stdout).Encode(s); err != nil {
					return err
				}
				continue
			}
			if i == 0 {
				fmt.Fprintf(a.stdout, format, "SESSION", "PEER", "LISTENER", "FOR", "MESSAGES", "STATE", "HELO")
			}
			fmt.Fprintf(a.stdout, format, s.ID, s.Peer, clean(s.Listener), span(now.Sub(s.Since)), fmt.Sprint(s.Messages), s.State, clean(s.Hello))
		}
		return nil
	}
	return cmd
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
