"""How the studio door is asked for a stream."""

EVENTS = {"accept": "text/event-stream"}
