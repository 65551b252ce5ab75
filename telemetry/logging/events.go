package logging

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/incoming-mx/incoming/telemetry"
)

func (lg *logger) sessionConnect(e telemetry.SessionConnect) {
	lg.at(slog.LevelDebug).session(e.Session).log("connect")
}

func (lg *logger) sessionAccepted(e telemetry.SessionAccepted) {
	lg.at(slog.LevelDebug).session(e.Session).log("session")
}

func (lg *logger) sessionRejected(e telemetry.SessionRejected) {
	lg.at(slog.LevelInfo).session(e.Session).
		text("stage", e.Stage).
		address("mail_from", e.MailFrom).
		address("rcpt", e.Rcpt).
		free("reply", e.Reply).
		text("policy", e.Policy).
		because(e.Because).
		free("reason", e.Reason).
		log("refused")
}

// A client that would not take its replies was given none that could be logged.
func (lg *logger) sessionClosed(e telemetry.SessionClosed) {
	level := slog.LevelDebug
	if e.Reason == "write" && errors.Is(e.Err, os.ErrDeadlineExceeded) {
		level = slog.LevelInfo
	}
	lg.at(level).session(e.Session).
		text("reason", e.Reason).
		err("error", e.Err).
		took("duration", e.Duration).
		num("messages", int64(e.Messages)).
		num("bytes_in", e.BytesIn).
		num("bytes_out", e.BytesOut).
		log("closed")
}

func (lg *logger) sessionCrowd(e telemetry.SessionCrowd) {
	lg.at(slog.LevelDebug).
		num("open", int64(e.Open)).
		num("peers", int64(e.Peers)).
		num("busiest", int64(e.Busiest)).
		log("connections")
}

func (lg *logger) sessionDialogue(e telemetry.SessionDialogue) {
	n := lg.at(slog.LevelDebug)
	if n.off {
		return
	}
	dir, text := "S", e.Line
	if e.FromPeer {
		dir, text = "C", withoutSecret(e.Line)
	}
	n.text("session", e.ID).text("from", dir).free("line", text).log("dialogue")
}

func (lg *logger) messageQueued(e telemetry.MessageQueued) {
	lg.at(slog.LevelInfo).text("id", e.ID).session(e.Session).
		sender(e.MailFrom).
		rcpts(e.Rcpts).
		num("size", e.Size).
		always("message_id", e.MessageID).
		always("tls", e.TLS).
		took("duration", e.Duration).
		log("accepted")
}

func (lg *logger) messageDiscarded(e telemetry.MessageDiscarded) {
	lg.at(slog.LevelInfo).text("id", e.ID).session(e.Session).
		sender(e.MailFrom).
		rcpts(e.Rcpts).
		num("size", e.Size).
		text("policy", e.Policy).
		log("discarded")
}

// A queue that is full, or a message too large for it, is no fault of ours.
func (lg *logger) messageEnqueueError(e telemetry.MessageEnqueueError) {
	level := slog.LevelError
	switch e.Reason {
	case "full", "busy", "too_large", "closed":
		level = slog.LevelWarn
	}
	lg.at(level).text("id", e.ID).session(e.Session).
		text("reason", e.Reason).
		err("error", e.Err).
		num("size", e.Size).
		log("not queued")
}

func (lg *logger) deliveryResult(e telemetry.DeliveryResult) {
	n := lg.at(slog.LevelInfo).text("id", e.ID).
		num("attempt", int64(e.Attempt)).
		text("outcome", e.Outcome).
		sender(e.MailFrom).
		rcpts(e.Rcpts).
		err("reason", e.Reason).
		took("duration", e.Duration).
		took("age", e.Age).
		when("next", e.Next)
	if e.Panicked {
		n.add("panicked", slog.BoolValue(true))
	}
	n.log("delivery")
}

func (lg *logger) deliveryHeld(e telemetry.DeliveryHeld) {
	if !e.Held {
		lg.at(slog.LevelInfo).log("deliveries go on")
		return
	}
	lg.at(slog.LevelWarn).num("failures", int64(e.Failures)).err("reason", e.Reason).log("deliveries are held back")
}

func (lg *logger) deliveryDead(e telemetry.DeliveryDead) {
	lg.at(slog.LevelWarn).text("id", e.ID).
		num("attempt", int64(e.Attempt)).
		text("kind", e.Kind).
		free("reason", e.Reason).
		sender(e.MailFrom).
		rcpts(e.Rcpts).
		log("dead letter")
}

func (lg *logger) queueDepth(e telemetry.QueueDepth) {
	lg.at(slog.LevelDebug).
		num("ready", int64(e.Ready)).
		num("waiting", int64(e.Waiting)).
		num("leased", int64(e.Leased)).
		num("dead", int64(e.Dead)).
		num("drafts", int64(e.Drafts)).
		took("oldest", e.OldestAge).
		log("queue")
}

func (lg *logger) queueSwept(e telemetry.QueueSwept) {
	lg.at(slog.LevelInfo).text("id", e.ID).
		sender(e.MailFrom).
		rcpts(e.Rcpts).
		text("kind", e.Kind).
		free("reason", e.Reason).
		when("dead_since", e.DeadAt).
		log("dead letter removed")
}

// A refusal and a discarded message have lines of their own.
func (lg *logger) policyDecision(e telemetry.PolicyDecision) {
	level := slog.LevelDebug
	switch e.Decision {
	case "error", "fail_open":
		level = slog.LevelWarn
	case "quarantine":
		level = slog.LevelInfo
	}
	if e.Observed { // there is no other line of it
		level = slog.LevelInfo
	}
	lg.at(level).text("id", e.ID).
		session(e.Session).
		text("policy", e.Policy).
		text("stage", e.Stage).
		text("decision", e.Decision).
		flag("observed", e.Observed).
		because(e.Because).
		free("reason", e.Reason).
		log("policy")
}

// The refusal it led to has its line.
func (lg *logger) limitHit(e telemetry.LimitHit) {
	lg.at(slog.LevelDebug).session(e.Session).
		text("limit", e.Limit).
		num("use", e.Use).
		num("max", e.Max).
		log("limit")
}

func (lg *logger) smugglingBlocked(e telemetry.SmugglingBlocked) {
	lg.at(slog.LevelInfo).session(e.Session).text("what", e.What).log("smuggling blocked")
}

func (lg *logger) tlsHandshake(e telemetry.TLSHandshake) {
	level, msg := slog.LevelDebug, "tls"
	if e.Err != nil {
		level, msg = slog.LevelInfo, "tls failed"
	}
	lg.at(level).session(e.Session).
		text("version", e.Version).
		text("cipher", e.Cipher).
		text("server_name", e.ServerName).
		text("reason", e.Reason).
		took("duration", e.Duration).
		err("error", e.Err).
		log(msg)
}

// That files cannot be read again is told as trouble too, once a listener.
func (lg *logger) tlsCertificate(e telemetry.TLSCertificate) {
	level, msg := slog.LevelInfo, "certificate"
	switch {
	case e.NotAfter.IsZero():
		msg = "certificate not in use any more"
	case e.Err != nil:
		level, msg = slog.LevelWarn, "certificate not read again"
	}
	lg.at(level).text("listener", e.Listener).
		num("number", int64(e.Number)).
		text("file", e.File).
		text("names", strings.Join(e.Names, " ")).
		when("not_after", e.NotAfter).
		err("error", e.Err).
		log(msg)
}

func (lg *logger) spoolError(e telemetry.SpoolError) {
	level, msg := slog.LevelError, "spool"
	switch {
	case e.Well:
		level, msg = slog.LevelInfo, "spool is well again"
	case e.Sick:
		msg = "spool is sick"
	}
	lg.at(level).text("id", e.ID).
		text("op", e.Op).
		text("path", e.Path).
		err("error", e.Err).
		log(msg)
}

func (lg *logger) spoolSpace(e telemetry.SpoolSpace) {
	lg.at(slog.LevelDebug).
		num("bytes", e.Bytes).
		num("inodes", e.Inodes).
		log("space")
}

func (lg *logger) trouble(e telemetry.Trouble) {
	level := slog.LevelWarn
	if e.Over {
		level = slog.LevelInfo
	}
	lg.at(level).text("kind", e.Kind).
		text("listener", e.Listener).
		free("what", e.Text).
		err("error", e.Err).
		log("trouble")
}

func (lg *logger) panicked(e telemetry.Panic) {
	n := lg.at(slog.LevelError)
	if n.off {
		return
	}
	// One line of one's own is more use than none: the stack's are joined.
	stack := strings.ReplaceAll(strings.TrimSpace(string(e.Stack)), "\n", " | ")
	stack = strings.ReplaceAll(stack, "\t", "")
	n.text("where", e.Where).
		text("id", e.ID).
		free("value", fmt.Sprint(e.Value)).
		add("stack", slog.StringValue(clean(stack, maxStack))).
		log("panic")
}
