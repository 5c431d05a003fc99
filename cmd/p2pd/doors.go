package main

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"slices"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/config"
	"github.com/pullonce/pullonce/registryapi"
)

// doors are what protects the registry: its users, and its certificate where that is kept in files.
type doors struct {
	policy      *access.Policy
	certificate *registryapi.Certificate // nil: none
	files       []string                 // that hold it
	log         *slog.Logger
}

func openDoors(cfg config.Config, log *slog.Logger) (*doors, error) {
	d := &doors{log: log}
	parts := access.Parts{Prefix: cfg.Hosted.Prefix, Rights: cfg.Registry.Rights}
	var err error
	if name := cfg.Registry.UsersFile; name != "" {
		d.files = append(d.files, name)
		if parts.Users, err = access.OpenUsers(name); err != nil {
			return nil, err
		}
	}
	if service := cfg.Registry.Token; service != (access.TokenService{}) {
		d.files = append(d.files, service.KeysFile)
		if parts.Tokens, err = access.OpenTokens(service); err != nil {
			return nil, err
		}
	}
	if t := cfg.Registry.TLS; t.Mode == "files" {
		d.files = append(d.files, t.CertFile, t.KeyFile)
		if d.certificate, err = registryapi.OpenCertificate(t.CertFile, t.KeyFile, log); err != nil {
			return nil, err
		}
	}
	slices.Sort(d.files)
	d.policy = access.NewPolicy(parts, log)
	return d, nil
}

// protect has the registry go by d.
func (d *doors) protect(c *registryapi.Config) {
	c.Access = d.policy
	if d.certificate != nil {
		c.TLS = &tls.Config{GetCertificate: d.certificate.GetCertificate, MinVersion: tls.VersionTLS12}
	}
}

// reload reads all files again. What cannot be read stays as it was.
func (d *doors) reload() {
	err := d.policy.Reload()
	if d.certificate != nil {
		err = errors.Join(err, d.certificate.Reload())
	}
	if err != nil {
		d.log.Error("what protects the registry has changed and cannot be used", slog.Any("error", err))
	}
}
