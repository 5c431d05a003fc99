package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// plainCommand has this program be the plain server that nodes are compared with, in a process of its own.
const plainCommand = "serve-plain"

// servePlain serves the files of a folder with http.ServeContent, and the file named manifest from memory, until ctx is
// done. It prints its address first.
func servePlain(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: %s FOLDER", plainCommand)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: plainHandler(args[0]), ReadHeaderTimeout: time.Minute}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if _, err := fmt.Fprintln(stdout, listener.Addr()); err != nil {
		return err
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

const manifestFile = "manifest"

func plainHandler(dir string) http.Handler {
	mux := http.NewServeMux()
	if raw, err := os.ReadFile(filepath.Join(dir, manifestFile)); err == nil {
		mux.HandleFunc("GET /"+manifestFile, func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			h.Set("Content-Length", strconv.Itoa(len(raw)))
			h.Set("Docker-Distribution-Api-Version", "registry/2.0")
			_, _ = w.Write(raw)
		})
	}
	mux.HandleFunc("GET /blob/{name}", func(w http.ResponseWriter, r *http.Request) {
		file, err := os.Open(filepath.Join(dir, filepath.Base(r.PathValue("name"))))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		defer func() { _ = file.Close() }()
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, file)
	})
	return mux
}

// A plainServer is such a process.
type plainServer struct {
	cmd *exec.Cmd
	url string
}

func startPlain(ctx context.Context, dir string) (*plainServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, plainCommand, dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the plain server: %w", err)
	}
	address, err := bufio.NewReader(stdout).ReadString('\n')
	p := &plainServer{cmd, "http://" + strings.TrimSpace(address)}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("start the plain server: %w", err)
	}
	return p, nil
}

func (p *plainServer) pid() int { return p.cmd.Process.Pid }

func (p *plainServer) close() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}
