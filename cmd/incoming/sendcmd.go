package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/cmd/incoming/internal/send"
	"github.com/spf13/cobra"
)

// sendFlags is what "incoming send" is asked for.
type sendFlags struct {
	send.Options
	size string
	json bool
}

func (a *app) sendCommand() *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:   "send [FILE]",
		Short: "Send a message, or many, to a server by SMTP or LMTP",
		Long: `Send FILE ("-" is stdin), or a message made up, to a server by SMTP or LMTP, and say how that went.
It is for trying out and for loading a server: it looks up no MX and retries nothing. The exit
code is 1 when anything was refused. A line of FILE that ends with LF alone is sent with CRLF.`,
		Example: "  incoming send --to you@example.org README.md\n  incoming send --count 1000 --connections 20 --size 4KiB\n" +
			"  incoming send --lmtp --server unix:/run/incoming/lmtp.sock --to you@example.org",
		Args: args(0, 1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.send(cmd, &f, args) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.Server, "server", "127.0.0.1:2525", "`ADDR` of the server, host:port or unix:/path")
	fs.BoolVar(&f.LMTP, "lmtp", false, "speak LMTP: a reply for each recipient")
	fs.StringVar(&f.From, "from", defaultSender(), "sender `ADDRESS`; '<>' is the null sender")
	fs.StringArrayVar(&f.To, "to", []string{"postmaster"}, "recipient `ADDRESS`, repeatable")
	fs.IntVar(&f.Count, "count", 1, "`N` messages")
	fs.IntVar(&f.Connections, "connections", 1, "`M` connections at once")
	fs.StringVar(&f.size, "size", "", "`B` octets of a made-up message, such as 20MiB")
	fs.StringVar(&f.Hello, "helo", "", "`NAME` to say in EHLO (default: our address)")
	fs.StringVar(&f.TLS, "tls", send.TLSNone, "`MODE`: none, starttls, or implicit")
	fs.BoolVar(&f.Insecure, "insecure", false, "take any certificate")
	fs.DurationVar(&f.Timeout, "timeout", time.Minute, "`DURATION` of each exchange with the server, at most")
	fs.BoolVar(&f.json, "json", false, "print the summary as one JSON object")
	return cmd
}

func defaultSender() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return "incoming-send@" + host
}

func (a *app) send(cmd *cobra.Command, f *sendFlags, args []string) error {
	if err := a.checkSend(cmd, f, args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	sum, err := a.sendAll(ctx, f)
	if err != nil {
		return fmt.Errorf("send: %s: %w", f.Server, err)
	}
	if err := a.summarize(f, sum); err != nil {
		return err
	}
	switch {
	case sum.Failed > 0:
		return fmt.Errorf("send: %d of %d messages were not accepted by %s", sum.Failed, sum.Failed+sum.Sent, f.Server)
	case sum.Refused > 0:
		return fmt.Errorf("send: %s refused %s", f.Server, plural(sum.Refused, "recipient"))
	}
	return nil
}

// checkSend completes f, reading the message when there is a FILE.
func (a *app) checkSend(cmd *cobra.Command, f *sendFlags, args []string) error {
	if f.From == "<>" {
		f.From = ""
	}
	switch f.TLS {
	case send.TLSNone, send.TLSStart, send.TLSImplicit:
	default:
		return usagef(cmd, "--tls %s: it is none, starttls or implicit", f.TLS)
	}
	for _, s := range append([]string{f.From, f.Hello}, f.To...) {
		if strings.ContainsAny(s, "\r\n<>") {
			return usagef(cmd, "%q: a line end or an angle bracket does not belong in it", s)
		}
	}
	if f.Count < 1 || f.Connections < 1 {
		return usagef(cmd, "--count and --connections are 1 or more")
	}
	var size config.Size
	if f.size != "" {
		if err := size.UnmarshalText([]byte(f.size)); err != nil {
			return usagef(cmd, "--size: %w", err)
		}
	}
	if len(args) == 0 {
		f.Message = send.Made(f.From, f.To, f.Count, int(max(size.N, 0)))
		if least := len(f.Message(0)); f.size != "" && int64(least) > size.N {
			a.note("--size %s: the header and the line below it have %d octets already, and are sent whole; --size says more, or give a FILE", f.size, least)
		}
		return nil
	}
	if f.size != "" {
		return usagef(cmd, "--size is for a made-up message, and FILE is given")
	}
	text, err := a.readMessage(args[0])
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	f.Message = func(int) []byte { return text }
	return nil
}

func (a *app) readMessage(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(a.stdin)
	}
	return os.ReadFile(file)
}

func (a *app) sendAll(ctx context.Context, f *sendFlags) (*send.Summary, error) {
	if f.Count > 1 && isTerminal(a.stderr) {
		b := &bar{w: a.stderr, total: f.Count, began: time.Now()}
		f.Progress = func(sent, failed int) { b.show(sent+failed, fmt.Sprintf("%d failed", failed)) }
		defer b.clear()
	}
	return send.Run(ctx, f.Options)
}

func (a *app) summarize(f *sendFlags, s *send.Summary) error {
	if f.json {
		return json.NewEncoder(a.stdout).Encode(map[string]any{
			"sent": s.Sent, "failed": s.Failed, "recipients_refused": s.Refused, "octets": s.Octets,
			"elapsed_seconds": s.Elapsed.Seconds(), "rate": s.Rate(),
			"latency_p50_seconds": s.P50.Seconds(), "latency_p99_seconds": s.P99.Seconds(),
			"errors": s.Errors, "reply": s.Reply,
		})
	}
	if f.Count == 1 && s.Reply != "" {
		fmt.Fprintln(a.stdout, clean(s.Reply))
	}
	for _, r := range s.Errors {
		fmt.Fprintf(a.stdout, "%6d × %s\n", r.Times, clean(r.Text))
	}
	_, err := fmt.Fprintln(a.stdout, s)
	return err
}
