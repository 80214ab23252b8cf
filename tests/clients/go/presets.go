package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What nats.go does with what a preset allows; see ../README.md.
func presets(url, user, password, action string, names []string) error {
	var lock sync.Mutex
	violations := []string{}
	connection, err := nats.Connect(url, nats.UserInfo(user, password), nats.NoReconnect(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			lock.Lock()
			defer lock.Unlock()
			violations = append(violations, err.Error())
		}))
	if err != nil {
		return err
	}
	defer connection.Close()
	js, err := jetstream.New(connection)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*timeout)
	defer cancel()
	seen := map[string]any{}
	switch action {
	case "consume":
		err = consume(ctx, js, names, seen)
	case "read":
		err = read(ctx, js, names[0], seen)
	case "write":
		err = write(ctx, js, names[0], seen)
	default:
		err = fmt.Errorf("no action %s", action)
	}
	if err != nil {
		return err
	}
	if err := connection.Flush(); err != nil {
		return err
	}
	lock.Lock()
	defer lock.Unlock()
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"seen": seen, "violations": violations})
}

func consume(ctx context.Context, js jetstream.JetStream, names []string, seen map[string]any) error {
	stream, err := js.Stream(ctx, names[0])
	if err != nil {
		return err
	}
	made := len(names) == 1
	name := "made-by-go"
	if made {
		config := jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckExplicitPolicy}
		if _, err := stream.CreateConsumer(ctx, config); err != nil {
			return err
		}
	} else {
		name = names[1]
	}
	consumer, err := stream.Consumer(ctx, name)
	if err != nil {
		return err
	}
	message, err := consumer.Next(jetstream.FetchMaxWait(timeout))
	if err != nil {
		return err
	}
	if err := message.DoubleAck(ctx); err != nil {
		return err
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return err
	}
	seen["fetched"], seen["ack_pending"] = message.Subject(), info.NumAckPending
	if !made {
		return nil
	}
	if err := stream.DeleteConsumer(ctx, name); err != nil {
		return err
	}
	ordered, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	message, err = ordered.Next(jetstream.FetchMaxWait(timeout))
	if err != nil {
		return err
	}
	seen["ordered"] = message.Subject()
	return nil
}

func read(ctx context.Context, js jetstream.JetStream, bucket string, seen map[string]any) error {
	store, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return err
	}
	entry, err := store.Get(ctx, "colour")
	if err != nil {
		return err
	}
	keys, err := store.Keys(ctx)
	if err != nil {
		return err
	}
	history, err := store.History(ctx, "colour")
	if err != nil {
		return err
	}
	watcher, err := store.Watch(ctx, "colour")
	if err != nil {
		return err
	}
	watched := <-watcher.Updates()
	seen["get"], seen["keys"] = string(entry.Value()), keys
	seen["history"], seen["watched"] = len(history), string(watched.Value())
	return watcher.Stop()
}

func write(ctx context.Context, js jetstream.JetStream, bucket string, seen map[string]any) error {
	store, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return err
	}
	revision, err := store.Put(ctx, "go", []byte("1"))
	if err != nil {
		return err
	}
	if _, err := store.Update(ctx, "go", []byte("2"), revision); err != nil {
		return err
	}
	if _, err := store.Create(ctx, "go-new", []byte("1")); err != nil {
		return err
	}
	if err := store.Delete(ctx, "go-new"); err != nil {
		return err
	}
	if err := store.Purge(ctx, "go-new"); err != nil {
		return err
	}
	seen["written"] = "go"
	return nil
}
