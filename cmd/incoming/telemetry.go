package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/telemetry"
	"github.com/incoming-mx/incoming/telemetry/logging"
	"github.com/incoming-mx/incoming/telemetry/metrics"
)

// newLogger logs to w as cfg says; level can be changed while it is in use.
func newLogger(w io.Writer, cfg *config.Config, level *slog.LevelVar) *slog.Logger {
	level.Set(levelOf(cfg))
	o := &slog.HandlerOptions{Level: level}
	if cfg.Log.Format.String() == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func levelOf(cfg *config.Config) slog.Level {
	switch cfg.Log.Level.String() {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// newTelemetry is the log and the metrics as hooks, and what serves the latter.
// The dialogue is only made when it is to be logged.
func newTelemetry(cfg *config.Config, log *slog.Logger) (telemetry.Hooks, http.Handler, error) {
	exporter, err := metrics.New(&metrics.Options{Prefix: cfg.Metrics.Prefix.String()})
	if err != nil {
		return telemetry.Hooks{}, nil, fmt.Errorf("metrics.prefix: %w", err)
	}
	lines := logging.New(log, &logging.Options{
		Addresses:  logging.Addresses(cfg.Log.Addresses.String()),
		NoDialogue: levelOf(cfg) > slog.LevelDebug,
	})
	return telemetry.Tee(lines, exporter.Hooks()), exporter.Handler(), nil
}
