package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/incoming-mx/incoming/queue"
	"github.com/spf13/cobra"
)

func (a *app) queueCommand() *cobra.Command {
	var f spoolFlags
	cmd := group(&cobra.Command{
		Use:   "queue",
		Short: "Look at the messages held, and work on them",
		Long: `Look at the messages held, and work on them: those of a running daemon by its control socket,
those of a stopped one in its spool, under the spool's lock. list, show, cat and stats change nothing.`,
	})
	f.register(cmd)
	cmd.AddCommand(a.listCommand(&f), a.showCommand(&f), a.catCommand(&f), a.statsCommand(&f),
		a.actCommand(&f, retryAct()), a.actCommand(&f, requeueAct()), a.actCommand(&f, deleteAct()),
		a.pauseCommand(&f, true), a.pauseCommand(&f, false))
	return cmd
}

func (a *app) listCommand(f *spoolFlags) *cobra.Command {
	var choice filterFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List messages, oldest first",
		Args:  args(0, 0, ""),
	}
	choice.register(cmd)
	choice.registerStates(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := choice.check(cmd); err != nil {
			return err
		}
		now := time.Now()
		return f.look(cmd, func(s view) error { return a.list(cmd, f, s, choice.filter(now), now) })
	}
	return cmd
}

// look opens the spool, looks at it, and closes it.
func (f *spoolFlags) look(cmd *cobra.Command, at func(view) error) error {
	v, err := f.view(cmd.Context())
	if err != nil {
		return err
	}
	return closing(v, at(v))
}

// work opens the spool, does something with it, and closes it.
func (a *app) work(cmd *cobra.Command, f *spoolFlags, on func(spool) error) error {
	s, err := f.spool(cmd.Context(), a.note)
	if err != nil {
		return err
	}
	return closing(s, on(s))
}

// closing closes c; err counts for more than an error of that.
func closing(c io.Closer, err error) error {
	if e := c.Close(); err == nil && e != nil {
		return fmt.Errorf("close the spool: %w", e)
	}
	return err
}

func (a *app) list(cmd *cobra.Command, f *spoolFlags, s view, q queue.Filter, now time.Time) error {
	out := a.entryWriter(f, now)
	var broken int
	for e, err := range s.List(cmd.Context(), q) {
		if err != nil {
			broken++
			a.note("%v", err)
			continue
		}
		if err := out(e); err != nil {
			return err
		}
	}
	if broken > 0 {
		return fmt.Errorf("%s could not be read; the daemon puts them among the dead when it starts", plural(broken, "message"))
	}
	return nil
}

// entryWriter is what writes one entry as a line: JSON, or a row of a table
// whose head comes before the first.
func (a *app) entryWriter(f *spoolFlags, now time.Time) func(queue.Entry) error {
	if f.json {
		enc := json.NewEncoder(a.stdout)
		return func(e queue.Entry) error { return enc.Encode(jsonEntry(e)) }
	}
	head := false
	return func(e queue.Entry) error {
		if !head {
			head = true
			fmt.Fprintf(a.stdout, rowFormat, "ID", "STATE", "AGE", "SIZE", "TRIES", "FROM → TO")
		}
		_, err := fmt.Fprintf(a.stdout, rowFormat, clean(string(e.ID)), e.State, span(since(now, e.ReceivedAt)), octets(e.Size), fmt.Sprint(e.Attempts), envelopeText(e)+remark(e, now))
		return err
	}
}

func (a *app) showCommand(f *spoolFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID…",
		Short: "Show all that is known of messages, their text aside",
		Args:  args(1, -1, "ID"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return f.look(cmd, func(s view) error {
				for i, id := range ids {
					e, err := s.Get(cmd.Context(), queue.ID(id))
					if err != nil {
						return notFound(id, err)
					}
					if f.json {
						err = json.NewEncoder(a.stdout).Encode(jsonEntry(e))
					} else {
						err = showEntry(a.stdout, e, time.Now(), i > 0)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

// notFound says which message there is not, in place of the storage's words.
func notFound(id string, err error) error {
	if errors.Is(err, queue.ErrNotFound) {
		return fmt.Errorf("message %s: there is none by that ID (any more); \"incoming queue list\" shows those there are", clean(id))
	}
	return err // which names it
}

func (a *app) catCommand(f *spoolFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "cat ID",
		Short: "Print a message as the application is given it, byte for byte",
		Args:  args(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return f.look(cmd, func(s view) error {
				r, err := s.Open(cmd.Context(), queue.ID(ids[0]))
				if err != nil {
					return notFound(ids[0], err)
				}
				defer r.Close()
				_, err = io.Copy(a.stdout, r)
				return err
			})
		},
	}
}

func (a *app) statsCommand(f *spoolFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Count the messages held",
		Args:  args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.look(cmd, func(s view) error {
				st, err := stats(cmd.Context(), s)
				if err != nil {
					return err
				}
				return a.writeStats(f, st)
			})
		},
	}
}

func (a *app) pauseCommand(f *spoolFlags, pause bool) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "Stop deliveries, also over a restart; accepting goes on, but for accept = sync",
		Args:  args(0, 0, ""),
	}
	if !pause {
		cmd.Use, cmd.Short = "resume", "Let deliveries go on"
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.work(cmd, f, func(s spool) error {
			act, said := s.Pause, "paused"
			if !pause {
				act, said = s.Resume, "resumed"
			}
			if err := act(cmd.Context()); err != nil {
				return fmt.Errorf("%s: %w", cmd.Name(), err)
			}
			if f.json {
				return json.NewEncoder(a.stdout).Encode(map[string]bool{"paused": pause})
			}
			_, err := fmt.Fprintf(a.stdout, "deliveries are %s\n", said)
			return err
		})
	}
	return cmd
}
