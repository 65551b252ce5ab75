package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/delivery/route"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/minted"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/smtp"
	"github.com/spf13/cobra"
)

// routeFlags is the message that "incoming route test" is asked about.
type routeFlags struct {
	config     configFlags
	from       string
	to         []string
	facts      []string
	quarantine string
	json       bool
}

func (a *app) routeCommand() *cobra.Command {
	cmd := group(&cobra.Command{Use: "route", Short: "Try out the routes of a configuration"})
	cmd.AddCommand(a.routeTestCommand())
	return cmd
}

func (a *app) routeTestCommand() *cobra.Command {
	var f routeFlags
	cmd := &cobra.Command{
		Use:   "test --to ADDRESS [FILE]",
		Short: "Say by which route a message would go, and why",
		Long: `Say by which route a message to each ADDRESS would go: where it leads, and of each route before
the first of its conditions that is not met. FILE ("-" is stdin) is the message, for routes that look at
its header; without one it has none. Of the policies minted alone is asked, where it has keys; what others would
have found is said by --fact and --quarantine. Nothing is delivered, and no daemon is asked.`,
		Example: "  incoming route test --config incoming.toml --to help+7@example.org --from alice@example.net mail.eml",
		Args:    args(0, 1, "FILE"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.routeTest(cmd, &f, args) },
	}
	f.config.register(cmd)
	fs := cmd.Flags()
	fs.StringArrayVar(&f.to, "to", nil, "recipient `ADDRESS`, repeatable")
	fs.StringVar(&f.from, "from", defaultSender(), "sender `ADDRESS`; '<>' is the null sender")
	fs.StringArrayVar(&f.facts, "fact", nil, "`KEY=JSON` a fact that a policy would have found, repeatable")
	fs.StringVar(&f.quarantine, "quarantine", "", "`REASON` for which a policy would have marked it")
	fs.BoolVar(&f.json, "json", false, "print one JSON object a recipient")
	return cmd
}

func (a *app) routeTest(cmd *cobra.Command, f *routeFlags, args []string) error {
	if len(f.to) == 0 {
		return usagef(cmd, "--to is missing: to whom?")
	}
	cfg, err := f.config.load(cmd)
	if err != nil {
		return err
	}
	table, err := newTable(cfg, func(to config.Target) (incoming.Adapter, error) {
		return adapterTo(to, cfg, slog.New(slog.DiscardHandler))
	})
	if err != nil {
		return err
	}
	var text []byte
	if len(args) > 0 {
		if text, err = a.readMessage(args[0]); err != nil {
			return fmt.Errorf("route test: %w", err)
		}
	}
	m, err := f.message(cmd, text)
	if err != nil {
		return err
	}
	refused, err := askMinted(cmd.Context(), cfg, m)
	if err != nil {
		return err
	}
	places := map[string][]string{config.Rest: {cfg.Delivery.To.Redacted()}}
	for _, r := range cfg.Routes {
		for _, to := range r.To {
			places[r.Name] = append(places[r.Name], to.Redacted())
		}
	}
	for _, c := range table.Choose(m) {
		if no := refused[c.Recipient]; no != nil {
			c = route.Choice{Recipient: c.Recipient, Err: fmt.Errorf("it is refused at RCPT: %w", no)}
		}
		if err := a.writeChoice(f, c, places[c.Route]); err != nil {
			return err
		}
	}
	return nil
}

// message is the one that is asked about.
func (f *routeFlags) message(cmd *cobra.Command, text []byte) (*queue.Message, error) {
	e := queue.Entry{ID: queue.NewID(time.Now()), Size: int64(len(text)), Quarantine: f.quarantine}
	e.ReceivedAt = time.Now()
	if f.from != "<>" {
		e.Envelope.MailFrom = f.from
	}
	for _, to := range f.to {
		e.Envelope.RcptTo = append(e.Envelope.RcptTo, queue.Recipient{Address: strings.Trim(to, "<>")})
	}
	for _, fact := range f.facts {
		key, value, ok := strings.Cut(fact, "=")
		if !ok || !json.Valid([]byte(value)) {
			return nil, usagef(cmd, "--fact %s: write KEY=JSON, such as customers.number=4711 or x.name='\"a\"'", fact)
		}
		if e.Facts == nil {
			e.Facts = queue.Facts{}
		}
		e.Facts[key] = json.RawMessage(value)
	}
	return queue.NewMessage(e, func() (queue.Raw, error) { return held{bytes.NewReader(text)}, nil }), nil
}

// askMinted asks the policy minted about the recipients of m, which gets its fact as in
// the daemon; refused is those that it would not take.
func askMinted(ctx context.Context, cfg *config.Config, m *queue.Message) (refused map[string]error, err error) {
	if cfg.Minted.KeyFile == "" || m.Facts[minted.FactName] != nil {
		return nil, nil
	}
	keys, err := minted.Open(cfg.Minted.KeyFile)
	if err != nil {
		return nil, err
	}
	asked, err := keys.Policy(cfg.Minted.Routes...)
	if err != nil {
		return nil, err
	}
	t := &policy.Transaction{}
	refused = make(map[string]error)
	for _, to := range m.Envelope.Addresses() {
		t.To = append(t.To, policy.Recipient{Path: smtp.ParsePath(to)})
		if no := asked.Check(ctx, policy.StageRcpt, t); no != nil {
			refused[to] = no
		}
	}
	if fact := t.Fact(minted.FactName); fact != nil {
		if m.Facts == nil {
			m.Facts = queue.Facts{}
		}
		m.Facts[minted.FactName] = fact
	}
	return refused, nil
}

// held is a message's text in memory.
type held struct{ *bytes.Reader }

func (held) Close() error { return nil }

// choiceJSON is a choice as --json prints it.
type choiceJSON struct {
	Recipient string       `json:"recipient"`
	Route     string       `json:"route,omitempty"`
	To        []string     `json:"to,omitempty"`
	Error     string       `json:"error,omitempty"`
	Passed    []passedJSON `json:"passed,omitempty"`
}

type passedJSON struct {
	Route  string `json:"route"`
	Misses string `json:"misses"`
}

func (a *app) writeChoice(f *routeFlags, c route.Choice, places []string) error {
	if f.json {
		out := choiceJSON{Recipient: c.Recipient, Route: c.Route, To: places}
		if c.Err != nil {
			out.Error = c.Err.Error()
		}
		for _, p := range c.Passed {
			out.Passed = append(out.Passed, passedJSON{p.Route, p.Condition})
		}
		return json.NewEncoder(a.stdout).Encode(out)
	}
	var b strings.Builder
	for _, p := range c.Passed {
		fmt.Fprintf(&b, "  not %s: %s is not met\n", p.Route, p.Condition)
	}
	head := fmt.Sprintf("%s goes by %s to %s\n", c.Recipient, c.Route, strings.Join(places, ", "))
	if c.Err != nil {
		head = fmt.Sprintf("%s cannot be told: %v\n", c.Recipient, c.Err)
	}
	_, err := a.stdout.Write([]byte(head + b.String()))
	return err
}
