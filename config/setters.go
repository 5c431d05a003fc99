package config

import (
	"errors"
	"log/slog"
)

type logLevel = slog.Level

// one makes a key with one value.
func one[T any](path, flag, def, unit string, parse parser[T], help string, field func(*Config) *T) key {
	return key{
		Key: Key{Path: path, Flag: flag, Default: def, Unit: unit, Help: help},
		set: func(c *Config, texts []string) error { return setOne(field(c), texts, parse) },
	}
}

// many makes a key with a list of values.
func many[T any](path, flag, def, unit string, parse parser[T], help string, field func(*Config) *[]T) key {
	return key{
		Key: Key{Path: path, Flag: flag, Default: def, Unit: "list of " + unit, Help: help}, list: true,
		set: func(c *Config, texts []string) error { return setMany(field(c), texts, parse) },
	}
}

func upOne[T any](name, def, unit string, parse parser[T], help string, field func(*Upstream) *T) key {
	return key{
		Key:      Key{Path: perUpstream + name, Default: def, Unit: unit, Help: help},
		upstream: func(u *Upstream, texts []string) error { return setOne(field(u), texts, parse) },
	}
}

func upMany[T any](name, def, unit string, parse parser[T], help string, field func(*Upstream) *[]T) key {
	return key{
		Key: Key{Path: perUpstream + name, Default: def, Unit: "list of " + unit, Help: help}, list: true,
		upstream: func(u *Upstream, texts []string) error { return setMany(field(u), texts, parse) },
	}
}

func setOne[T any](field *T, texts []string, parse parser[T]) error {
	if len(texts) != 1 {
		return errors.New("want one value, not a list")
	}
	value, err := parse(texts[0])
	if err == nil {
		*field = value
	}
	return err
}

func setMany[T any](field *[]T, texts []string, parse parser[T]) error {
	values := make([]T, 0, len(texts))
	var errs []error
	for _, text := range texts {
		value, err := parse(text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		values = append(values, value)
	}
	if len(errs) == 0 {
		*field = values
	}
	return errors.Join(errs...)
}
