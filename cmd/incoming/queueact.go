package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/incoming-mx/incoming/queue"
	"github.com/spf13/cobra"
)

// act is something done to each of some messages.
type act struct {
	verb, done, short string
	// states is those it is for; none is all.
	states []queue.State
	// instead is the verb for a message in another state.
	instead string
	do      func(spool) func(context.Context, queue.ID) error
}

func retryAct() act {
	return act{verb: "retry", done: "retried", short: "Make waiting messages due now",
		states: []queue.State{queue.StateReady, queue.StateWaiting}, instead: "requeue",
		do: func(s spool) func(context.Context, queue.ID) error { return s.Retry }}
}

func requeueAct() act {
	return act{verb: "requeue", done: "requeued", short: "Bring dead letters back, as if just received",
		states: []queue.State{queue.StateDead}, instead: "retry",
		do: func(s spool) func(context.Context, queue.ID) error { return s.Requeue }}
}

func deleteAct() act {
	return act{verb: "delete", done: "deleted", short: "Remove messages for good",
		do: func(s spool) func(context.Context, queue.ID) error { return s.Delete }}
}

func (a *app) actCommand(f *spoolFlags, what act) *cobra.Command {
	var choice filterFlags
	var yes bool
	cmd := &cobra.Command{
		Use:   what.verb + " {ID… | --all | --rcpt A --from A --older D --reason T}",
		Short: what.short,
		Long: what.short + `.

The messages are named by their IDs, or chosen: a message must match every flag given.
How many there are is said first, and asked; --yes does it without asking.`,
	}
	choice.register(cmd)
	if what.states == nil {
		choice.registerStates(cmd)
	}
	choice.registerAll(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		if err := choice.decided(cmd, ids); err != nil {
			return err
		}
		return a.work(cmd, f, func(s spool) error {
			chosen, err := a.choose(cmd, s, what, &choice, ids)
			if err != nil {
				return err
			}
			if len(chosen) == 0 {
				a.note("no message matches; nothing to %s", what.verb)
				return nil
			}
			question := what.verb + " " + tally(chosen)
			if yes {
				a.note("%s", question)
			} else if err := a.confirm(question); err != nil {
				return err
			}
			return a.actOn(cmd.Context(), f, s, what, chosen)
		})
	}
	return cmd
}

// decided checks that the messages are chosen by exactly one way.
func (f *filterFlags) decided(cmd *cobra.Command, ids []string) error {
	if err := f.check(cmd); err != nil {
		return err
	}
	switch {
	case len(ids) > 0 && (f.set() || f.all):
		return usagef(cmd, "%s: IDs, or flags that choose, and not both", cmd.Name())
	case f.all && f.set():
		return usagef(cmd, "%s: --all is all of them; leave it out to choose", cmd.Name())
	case len(ids) == 0 && !f.set() && !f.all:
		return usagef(cmd, "%s: name IDs, or choose by --rcpt, --from, --older, --reason, or --all", cmd.Name())
	}
	return nil
}

// choose is the messages meant, as they are now.
func (a *app) choose(cmd *cobra.Command, s spool, what act, choice *filterFlags, ids []string) ([]queue.Entry, error) {
	var chosen []queue.Entry
	if len(ids) == 0 {
		for e, err := range s.List(cmd.Context(), choice.filter(time.Now(), what.states...)) {
			if err != nil {
				a.note("%v", err) // one broken entry does not keep the rest from being worked on
				continue
			}
			chosen = append(chosen, e)
		}
		return chosen, cmd.Context().Err()
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		e, err := s.Get(cmd.Context(), queue.ID(id))
		if err != nil {
			return nil, notFound(id, err)
		}
		if what.states != nil && e.State != queue.StateLeased && !slices.Contains(what.states, e.State) {
			return nil, fmt.Errorf("message %s is %s, which %s is not for; use %s", clean(id), e.State, what.verb, what.instead)
		}
		chosen = append(chosen, e)
	}
	return chosen, nil
}

// actOn does it, one message after the other. One that is gone by now, or in
// the hands of an adapter, does not keep the others from it.
func (a *app) actOn(ctx context.Context, f *spoolFlags, s spool, what act, chosen []queue.Entry) error {
	do := what.do(s)
	out := json.NewEncoder(a.stdout)
	var failed int
	for _, e := range chosen {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := do(ctx, e.ID)
		result := map[string]string{"id": string(e.ID), "result": what.done}
		if err != nil {
			failed++
			a.note("message %s: %v", clean(string(e.ID)), unwrapped(err))
			result["result"], result["error"] = "failed", unwrapped(err).Error()
		}
		if f.json {
			if err := out.Encode(result); err != nil {
				return err
			}
		}
	}
	if !f.json {
		fmt.Fprintf(a.stdout, "%s %s\n", plural(len(chosen)-failed, "message"), what.done)
	}
	if failed > 0 {
		return fmt.Errorf("%s of %d could not be %s", plural(failed, "message"), len(chosen), what.done)
	}
	return nil
}

// unwrapped is the plain sentence for the errors an operator meets.
func unwrapped(err error) error {
	for _, plain := range []struct {
		kind error
		text string
	}{
		{queue.ErrNotFound, "gone by now"},
		{queue.ErrLeased, "it is being delivered; try again later"},
		{queue.ErrIncomplete, "it is not whole; it can be looked at and deleted"},
	} {
		if errors.Is(err, plain.kind) {
			return errors.New(plain.text)
		}
	}
	return err
}
