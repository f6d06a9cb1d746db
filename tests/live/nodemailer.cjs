// Submits one message with nodemailer: node nodemailer.cjs MODULES PORT CA METHOD USER SECRET
const [, , modules, port, ca, method, user, secret] = process.argv;
const nodemailer = require(`${modules}/nodemailer`);
const auth = method === "XOAUTH2" ? { type: "OAuth2", user, accessToken: secret } : { user, pass: secret };
const transport = nodemailer.createTransport({
  host: "127.0.0.1",
  port: Number(port),
  requireTLS: true,
  tls: { ca: require("fs").readFileSync(ca), servername: "waypost.test" },
  auth,
  authMethod: method,
});
const mail = { from: "alice@origin.test", to: "bob@example.test", subject: "hello", text: "How are you?" };
transport.sendMail(mail).then(
  (info) => console.log(info.response),
  (error) => {
    console.error(error.message);
    process.exit(1);
  },
);
