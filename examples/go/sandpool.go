// What a client of Sandpool needs: to start a program, and to say how it ended or why it was refused.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	pb "example.com/sandpool/gen/sandpool/v1"
)

// python is what to run: Python source, within limits.
func python(source string, limits *pb.Limits) *pb.ExecutionSpec {
	code := &pb.ExecutionSpec_Code{Code: &pb.Code{Language: "python", Source: source}}
	return &pb.ExecutionSpec{Program: code, Limits: limits}
}

// start opens the streams of an execution. Cancelling ctx ends the program and its sandbox.
func start(ctx context.Context, api pb.ExecutionServiceClient, spec *pb.ExecutionSpec) (
	grpc.BidiStreamingClient[pb.ExecuteRequest, pb.ExecuteResponse], error) {
	call, err := api.Execute(ctx)
	if err != nil {
		return nil, err
	}
	err = call.Send(&pb.ExecuteRequest{Event: &pb.ExecuteRequest_Start{Start: spec}})
	if errors.Is(err, io.EOF) {
		err = nil // The call has ended already, and Recv says why.
	}
	return call, err
}

// describe says how an execution ended. A call that was not refused always ends with one of these.
func describe(finished *pb.Finished) string {
	switch end := finished.Outcome.(type) {
	case *pb.Finished_Exited:
		return fmt.Sprintf("exited with code %d", end.Exited.Code)
	case *pb.Finished_Signaled:
		return fmt.Sprintf("ended by signal %d (%s)", end.Signaled.Signal, end.Signaled.Name)
	case *pb.Finished_TimedOut:
		return fmt.Sprintf("timed out after %s", end.TimedOut.Timeout.AsDuration())
	case *pb.Finished_OutOfMemory:
		return fmt.Sprintf("out of memory at %d MiB", end.OutOfMemory.MemoryBytes>>20)
	case *pb.Finished_SandboxLost:
		// BEFORE_START: no start was confirmed, so repeat it. Otherwise only you know whether that is safe.
		return fmt.Sprintf("sandbox lost, %s: %s", end.SandboxLost.Cause, end.SandboxLost.Reason)
	default: // DiskLimit, OutputLimit, Cancelled, NotStarted, and what is newer than this client
		return fmt.Sprint(finished)
	}
}

// explain says what a status holds: its code, what is wrong with each field, and when to try again.
func explain(err error) string {
	refused := status.Convert(err)
	details := ""
	for _, detail := range refused.Details() {
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			for _, wrong := range detail.FieldViolations {
				details += fmt.Sprintf("\n  %s: %s", wrong.Field, wrong.Description)
			}
		case *errdetails.RetryInfo:
			details += fmt.Sprintf("\n  try again in %s", detail.RetryDelay.AsDuration())
		}
	}
	if details == "" {
		details = ": " + refused.Message()
	}
	return refused.Code().String() + details
}
