package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Makes calls, and notes which of them the server allows.
type attempts struct {
	connection *nats.Conn
	complaints chan error
	results    map[string]string
}

func (a *attempts) attempt(name string, call func(context.Context) error) {
	for len(a.complaints) > 0 {
		<-a.complaints
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- call(ctx) }()
	result := "no answer"
	select {
	case err := <-done:
		result = "yes"
		if err != nil {
			result = err.Error()
		}
	case err := <-a.complaints:
		result = err.Error()
	case <-ctx.Done():
	}
	// Whatever the server has to say of it comes before the answer to this, and is handed on at once.
	if err := a.connection.Flush(); err != nil {
		result = err.Error()
	}
	select {
	case err := <-a.complaints:
		result = err.Error()
	case <-time.After(50 * time.Millisecond):
	}
	a.results[name] = result
}

// Which calls of nats.go's JetStream, KV and object stores a user's permissions allow; see ../README.md.
func stores(url, user, password, kind, name string, made bool) error {
	complaints := make(chan error, 64)
	connection, err := nats.Connect(url, nats.UserInfo(user, password), nats.NoReconnect(), nats.Timeout(timeout),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { complaints <- err }))
	if err != nil {
		return err
	}
	defer connection.Close()
	js, err := jetstream.New(connection)
	if err != nil {
		return err
	}
	calls := attempts{connection, complaints, map[string]string{}}
	switch kind {
	case "kv":
		err = calls.kv(js, name, made)
	case "objects":
		err = calls.objects(js, name, made)
	case "stream":
		calls.stream(js, name, made)
	default:
		err = fmt.Errorf("no stores of %s", kind)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(calls.results)
}

func (a *attempts) kv(js jetstream.JetStream, bucket string, made bool) error {
	if made {
		a.attempt("make", func(ctx context.Context) error {
			store, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket, History: 5})
			if err != nil {
				return err
			}
			if _, err := store.Put(ctx, "colour", []byte("red")); err != nil {
				return err
			}
			if _, err := store.Put(ctx, "gone", []byte("grey")); err != nil {
				return err
			}
			return store.Delete(ctx, "gone")
		})
	}
	var store jetstream.KeyValue
	a.attempt("open", func(ctx context.Context) (err error) {
		store, err = js.KeyValue(ctx, bucket)
		return err
	})
	if store == nil {
		return fmt.Errorf("open: %s", a.results["open"])
	}
	a.attempt("get", func(ctx context.Context) error {
		_, err := store.Get(ctx, "colour")
		return err
	})
	a.attempt("get a revision", func(ctx context.Context) error {
		_, err := store.GetRevision(ctx, "colour", 1)
		return err
	})
	a.attempt("keys", func(ctx context.Context) error {
		_, err := store.Keys(ctx)
		return err
	})
	a.attempt("history", func(ctx context.Context) error {
		_, err := store.History(ctx, "colour")
		return err
	})
	a.attempt("watch", func(ctx context.Context) error {
		watcher, err := store.Watch(ctx, "colour")
		if err != nil {
			return err
		}
		<-watcher.Updates()
		return watcher.Stop()
	})
	a.attempt("status", func(ctx context.Context) error {
		_, err := store.Status(ctx)
		return err
	})
	var revision uint64
	a.attempt("put", func(ctx context.Context) (err error) {
		revision, err = store.Put(ctx, "go", []byte("1"))
		return err
	})
	a.attempt("update", func(ctx context.Context) error {
		_, err := store.Update(ctx, "go", []byte("2"), revision)
		return err
	})
	a.attempt("create", func(ctx context.Context) error {
		_, err := store.Create(ctx, "go-new", []byte("1"))
		return err
	})
	a.attempt("delete", func(ctx context.Context) error { return store.Delete(ctx, "go-new") })
	a.attempt("create what was deleted", func(ctx context.Context) error {
		_, err := store.Create(ctx, "go-new", []byte("2"))
		return err
	})
	a.attempt("purge", func(ctx context.Context) error { return store.Purge(ctx, "go-new") })
	a.attempt("purge what was deleted", func(ctx context.Context) error {
		return store.PurgeDeletes(ctx, jetstream.DeleteMarkersOlderThan(-1))
	})
	return nil
}

func (a *attempts) objects(js jetstream.JetStream, bucket string, made bool) error {
	if made {
		a.attempt("make", func(ctx context.Context) error {
			store, err := js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: bucket})
			if err != nil {
				return err
			}
			_, err = store.PutString(ctx, "logo", "hello")
			return err
		})
	}
	var store jetstream.ObjectStore
	a.attempt("open", func(ctx context.Context) (err error) {
		store, err = js.ObjectStore(ctx, bucket)
		return err
	})
	if store == nil {
		return fmt.Errorf("open: %s", a.results["open"])
	}
	a.attempt("info", func(ctx context.Context) error {
		_, err := store.GetInfo(ctx, "logo")
		return err
	})
	a.attempt("get", func(ctx context.Context) error {
		_, err := store.GetBytes(ctx, "logo")
		return err
	})
	a.attempt("list", func(ctx context.Context) error {
		_, err := store.List(ctx)
		return err
	})
	a.attempt("watch", func(ctx context.Context) error {
		watcher, err := store.Watch(ctx)
		if err != nil {
			return err
		}
		<-watcher.Updates()
		return watcher.Stop()
	})
	a.attempt("status", func(ctx context.Context) error {
		_, err := store.Status(ctx)
		return err
	})
	put := func(ctx context.Context) error {
		meta := jetstream.ObjectMeta{Name: "go"}
		_, err := store.Put(ctx, meta, bytes.NewReader(make([]byte, 300_000)))
		return err
	}
	a.attempt("put", put)
	a.attempt("put again", put)
	a.attempt("change what is said of it", func(ctx context.Context) error {
		return store.UpdateMeta(ctx, "go", jetstream.ObjectMeta{Name: "go", Description: "two"})
	})
	a.attempt("delete", func(ctx context.Context) error { return store.Delete(ctx, "go") })
	a.attempt("seal", store.Seal)
	return nil
}

func (a *attempts) stream(js jetstream.JetStream, name string, made bool) {
	if made {
		a.attempt("make", func(ctx context.Context) error {
			_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
			return err
		})
	}
	a.attempt("look it up", func(ctx context.Context) error {
		_, err := js.Stream(ctx, name)
		return err
	})
	a.attempt("publish", func(ctx context.Context) error {
		_, err := js.Publish(ctx, name+".new", []byte("1"))
		return err
	})
	a.attempt("publish at once", func(ctx context.Context) error {
		futures := [2]jetstream.PubAckFuture{}
		for at := range futures {
			var err error
			if futures[at], err = js.PublishAsync(name+".new", []byte("2")); err != nil {
				return err
			}
		}
		for _, future := range futures {
			select {
			case <-future.Ok():
			case err := <-future.Err():
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	a.attempt("publish what is not in P", func(ctx context.Context) error {
		_, err := js.Publish(ctx, name+".other.new", []byte("1"))
		return err
	})
	a.attempt("look up which stream a subject is in", func(ctx context.Context) error {
		_, err := js.StreamNameBySubject(ctx, name+".new")
		return err
	})
}
