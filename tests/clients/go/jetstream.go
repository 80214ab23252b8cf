package main

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What JetStream did; see ../README.md.
type stored struct {
	Acks       []uint64 `json:"acks"`
	Fetched    []string `json:"fetched"`
	Pending    uint64   `json:"pending"`
	AckPending int      `json:"ack_pending"`
}

func useJetstream(connection *nats.Conn, stream, consumer, subject string, create bool) (*stored, error) {
	seen := &stored{Acks: []uint64{}, Fetched: []string{}}
	ctx, cancel := context.WithTimeout(context.Background(), 3*timeout)
	defer cancel()
	js, err := jetstream.New(connection)
	if err != nil {
		return seen, err
	}
	if create {
		config := jetstream.StreamConfig{Name: stream, Subjects: []string{subject}, Storage: jetstream.FileStorage}
		if _, err := js.CreateStream(ctx, config); err != nil {
			return seen, err
		}
		durable := jetstream.ConsumerConfig{Durable: consumer, AckPolicy: jetstream.AckExplicitPolicy}
		if _, err := js.CreateConsumer(ctx, stream, durable); err != nil {
			return seen, err
		}
	}
	for _, text := range []string{"first", "second"} {
		ack, err := js.Publish(ctx, subject, []byte(text))
		if err != nil {
			return seen, err
		}
		seen.Acks = append(seen.Acks, ack.Sequence)
	}
	processor, err := js.Consumer(ctx, stream, consumer)
	if err != nil {
		return seen, err
	}
	for len(seen.Fetched) < 2 {
		batch, err := processor.Fetch(2-len(seen.Fetched), jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			return seen, err
		}
		before := len(seen.Fetched)
		for message := range batch.Messages() {
			if err := message.DoubleAck(ctx); err != nil {
				return seen, err
			}
			seen.Fetched = append(seen.Fetched, string(message.Data()))
		}
		if len(seen.Fetched) == before {
			return seen, batch.Error()
		}
	}
	info, err := processor.Info(ctx)
	if err != nil {
		return seen, err
	}
	seen.Pending, seen.AckPending = info.NumPending, info.NumAckPending
	return seen, nil
}
