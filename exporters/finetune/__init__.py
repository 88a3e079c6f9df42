"""From examples to a merged model: what goes before the export."""
