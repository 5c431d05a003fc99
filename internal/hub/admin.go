package hub

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// openAdmin starts the admin API if the configuration asks for it.
func (h *Hub) openAdmin() error {
	if h.cfg.AdminListen == "" {
		return nil
	}
	ln, err := net.Listen("tcp", h.cfg.AdminListen)
	if err != nil {
		return fmt.Errorf("listen for the admin API: %w", err)
	}
	h.adminAddr = ln.Addr()
	h.admin = &http.Server{
		Handler: h.AdminHandler(), ReadHeaderTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	h.wg.Go(func() { _ = h.admin.Serve(ln) })
	return nil
}

// AdminURL is the base URL of the admin API, or empty.
func (h *Hub) AdminURL() string {
	if h.adminAddr == nil {
		return ""
	}
	return "http://" + h.adminAddr.String()
}

// AdminHandler is the admin API, for other processes:
//
//	GET    /hub/stats            Stats
//	POST   /hub/reset            counters to zero
//	GET    /hub/fault            the faults in force
//	POST   /hub/fault            a Fault: {"kind":"blob","do":"cut-at","at":1000,"count":1}; answers {"id":"1"}
//	DELETE /hub/fault[?id=1]     clears one or all
//	POST   /hub/rate             {"rate":50000000}: the link's rate from now on
//	POST   /hub/readers          {"repo":"team/app","users":["ann"]}: who may read it; without users nobody; "public":true everybody
//	POST   /hub/password         {"user":"ann","password":"…"}: changes it, or makes the user
//	POST   /hub/revoke           ends all tokens
func (h *Hub) AdminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hub/stats", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, h.Stats())
	})
	mux.HandleFunc("POST /hub/reset", func(w http.ResponseWriter, _ *http.Request) {
		h.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /hub/fault", func(w http.ResponseWriter, _ *http.Request) {
		list := []wireFault{}
		for _, f := range h.faults.all() {
			list = append(list, f.wire(f.id))
		}
		writeJSON(w, http.StatusOK, list)
	})
	mux.HandleFunc("POST /hub/fault", h.postFault)
	mux.HandleFunc("DELETE /hub/fault", func(w http.ResponseWriter, r *http.Request) {
		if err := h.ClearFault(r.URL.Query().Get("id")); err != nil {
			writeError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /hub/rate", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Rate int64 `json:"rate"`
		}
		if !readJSON(w, r, &in) {
			return
		}
		h.SetRate(in.Rate)
		w.WriteHeader(http.StatusNoContent)
	})
	h.rightsAPI(mux)
	return mux
}

// rightsAPI changes users and what they may read.
func (h *Hub) rightsAPI(mux *http.ServeMux) {
	mux.HandleFunc("POST /hub/readers", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Repo   string   `json:"repo"`
			Users  []string `json:"users"`
			Public bool     `json:"public"`
		}
		if !readJSON(w, r, &in) {
			return
		}
		if in.Public {
			h.SetPublic(in.Repo)
		} else {
			h.SetReaders(in.Repo, in.Users...)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /hub/password", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			User     string `json:"user"`
			Password string `json:"password"`
		}
		if !readJSON(w, r, &in) {
			return
		}
		h.SetPassword(in.User, in.Password)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /hub/revoke", func(w http.ResponseWriter, _ *http.Request) {
		h.RevokeTokens()
		w.WriteHeader(http.StatusNoContent)
	})
}

func (h *Hub) postFault(w http.ResponseWriter, r *http.Request) {
	var f Fault
	if !readJSON(w, r, &f) {
		return
	}
	id, err := h.AddFault(f)
	if err != nil {
		writeError(w, http.StatusBadRequest, "BAD_REQUEST", err.Error())
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"id": id})
}

func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(into); err != nil {
		writeError(w, http.StatusBadRequest, "BAD_REQUEST", err.Error())
		return false
	}
	return true
}
