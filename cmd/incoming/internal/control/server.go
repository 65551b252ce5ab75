package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// maxRequest is the most octets of a request's body: many thousand IDs.
const maxRequest = 16 << 20

// Serve answers on l until ctx ends, then lets requests finish for a second,
// and closes l.
func Serve(ctx context.Context, l net.Listener, d Daemon) error {
	srv := &http.Server{Handler: d.handler(), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		err := srv.Shutdown(grace)
		if errors.Is(err, context.DeadlineExceeded) {
			err = srv.Close()
		}
		done <- err
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return <-done
}

func (d Daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/list", d.list)
	mux.HandleFunc("POST /v1/open", d.open)
	handle(mux, "ping", func(context.Context, struct{}) (any, error) { return nil, nil })
	handle(mux, "get", func(ctx context.Context, id queue.ID) (any, error) { return d.Queue.Get(ctx, id) })
	handle(mux, "retry", act(d.Queue.Retry))
	handle(mux, "requeue", act(d.Queue.Requeue))
	handle(mux, "delete", act(d.Queue.Delete))
	handle(mux, "pause", func(ctx context.Context, _ struct{}) (any, error) { return nil, d.Queue.Pause(ctx) })
	handle(mux, "resume", func(ctx context.Context, _ struct{}) (any, error) { return nil, d.Queue.Resume(ctx) })
	handle(mux, "stats", func(context.Context, struct{}) (any, error) { return d.Stats(), nil })
	handle(mux, "sessions", func(context.Context, struct{}) (any, error) { return d.Sessions(), nil })
	handle(mux, "busiest", func(context.Context, struct{}) (any, error) { return d.Busiest(), nil })
	handle(mux, "reload", func(ctx context.Context, _ struct{}) (any, error) { return d.Reload(ctx) })
	return mux
}

func act(f func(context.Context, queue.ID) error) func(context.Context, queue.ID) (any, error) {
	return func(ctx context.Context, id queue.ID) (any, error) { return nil, f(ctx, id) }
}

// handle answers POST /v1/name: a request of JSON, a result of JSON.
func handle[Q any](mux *http.ServeMux, name string, f func(context.Context, Q) (any, error)) {
	mux.HandleFunc("POST /v1/"+name, func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if !decode(w, r, &q) {
			return
		}
		result, err := f(r.Context(), q)
		if err != nil {
			fail(w, http.StatusInternalServerError, err)
			return
		}
		_ = json.NewEncoder(w).Encode(result) // the tool has gone: nobody is left to tell
	})
}

func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(into)
	if err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("request: %w", err))
		return false
	}
	return true
}

func fail(w http.ResponseWriter, status int, err error) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(failure{Error: err.Error(), Kind: kindOf(err), Place: placeOf(err)}) // as above
}

func (d Daemon) list(w http.ResponseWriter, r *http.Request) {
	var f queue.Filter
	if !decode(w, r, &f) {
		return
	}
	out := json.NewEncoder(w)
	for e, err := range d.Queue.List(r.Context(), f) {
		l := line{Entry: &e}
		if err != nil {
			l = line{Error: err.Error()}
		}
		if out.Encode(l) != nil {
			return // the tool has gone
		}
	}
}

func (d Daemon) open(w http.ResponseWriter, r *http.Request) {
	var id queue.ID
	if !decode(w, r, &id) {
		return
	}
	text, err := d.Queue.Open(r.Context(), id)
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	defer text.Close()
	// What can be read is sent, and why there is no more behind it: the tool
	// must see a broken message, not a short one.
	w.Header().Set("Trailer", brokenOff)
	if _, err := io.Copy(w, text); err != nil {
		w.Header().Set(brokenOff, err.Error())
	}
}
